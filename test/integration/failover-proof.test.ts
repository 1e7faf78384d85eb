// Failover under load, in short; test/system has the long form.

import { proveFailover } from '../support/failover-suite.ts'

proveFailover('short')
