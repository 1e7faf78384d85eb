// Nothing leaks from limits: 10,000 requests that end in every way, a million agents.

import { proveNothingLeaks } from '../support/leaks-suite.ts'

proveNothingLeaks('long')
