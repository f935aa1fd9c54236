// How well words fit what was typed: its letters in their order, better where they are together or begin words.

/** Null: not at all; more is better. */
export function fits(query: string, text: string): number | null {
  const [wanted, there] = [query.toLowerCase().replaceAll(' ', ''), text.toLowerCase()]
  let score = 0
  let at = -1
  for (const letter of wanted) {
    const next = there.indexOf(letter, at + 1)
    if (next < 0) return null
    const isStart = next === 0 || /[^\p{L}\p{N}]/u.test(there[next - 1] ?? '')
    score += (next === at + 1 ? 3 : 0) + (isStart ? 2 : 0) - Math.min(next - at, 10) / 10
    at = next
  }
  return score - text.length / 1_000
}
