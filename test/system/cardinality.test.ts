// 100,000 different model names, bearers and mistakes.

import { proveCardinality } from '../support/cardinality-suite.ts'

proveCardinality('long')
