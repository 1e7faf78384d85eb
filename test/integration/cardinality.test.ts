import { proveCardinality } from '../support/cardinality-suite.ts'

proveCardinality('short')
