// Failover under load, in full: a minute of each fault at 300 requests a second (issue "Failover that can be trusted").

import { proveFailover } from '../support/failover-suite.ts'

proveFailover('long')
