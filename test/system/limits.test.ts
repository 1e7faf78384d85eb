// The proof that limits hold, in full: a minute of each, and every nemesis (issue "Limits that hold", Done when).

import { proveLimits } from '../support/limits-suite.ts'

proveLimits('long')
