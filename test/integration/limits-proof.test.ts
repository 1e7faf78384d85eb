// The proof that limits hold, in its short form; test/system has the long one, with every nemesis.

import { proveLimits } from '../support/limits-suite.ts'

proveLimits('short')
