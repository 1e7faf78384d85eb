// How hard a model shall think, where one format names an effort and another a budget.

/** The effort that a budget of thinking tokens stands for, in the three words that everybody knows (wire §5). */
export function budgetToEffort(budgetTokens: number): 'low' | 'medium' | 'high' {
  if (budgetTokens <= 2_048) return 'low'
  return budgetTokens <= 8_192 ? 'medium' : 'high'
}
