// Nothing leaks from limits, in short; test/system has the long form.

import { proveNothingLeaks } from '../support/leaks-suite.ts'

proveNothingLeaks('short')
