/** Numbers as Docker shows them. */

const UNITS = ['B', 'kB', 'MB', 'GB', 'TB', 'PB']

/** Bytes in powers of 1000 with four significant digits at most: `0B`, `831B`, `12.3MB`. */
export function bytes(count: number, digits = 3): string {
  let value = count
  let unit = 0
  while (value >= 1000 && unit < UNITS.length - 1) {
    value /= 1000
    unit++
  }
  return `${unit === 0 ? value : Number(value.toPrecision(digits))}${UNITS[unit]}`
}

/** `0.4s`, `83.0s`. */
export function seconds(durationMs: number, digits = 1): string {
  return `${(durationMs / 1000).toFixed(digits)}s`
}

const SPANS: readonly (readonly [seconds: number, name: string])[] = [
  [365 * 86_400, 'years'],
  [30 * 86_400, 'months'],
  [7 * 86_400, 'weeks'],
  [86_400, 'days'],
  [3_600, 'hours'],
  [60, 'minutes'],
  [1, 'seconds'],
]

/** How long ago: `3 days ago`, `About an hour ago`; as in Docker, two of a unit come before one of the next. */
export function ago(date: Date, now = new Date()): string {
  const age = Math.max(0, (now.getTime() - date.getTime()) / 1000)
  if (age < 1) return 'Less than a second ago'
  if (age < 2) return '1 second ago'
  if (age >= 60 && age < 120) return 'About a minute ago'
  if (age >= 3_600 && age < 7_200) return 'About an hour ago'
  const [span, name] = SPANS.find(
    ([length, name]) => age >= (name === 'minutes' || name === 'hours' || name === 'seconds' ? length : 2 * length),
  ) ?? [1, 'seconds']
  return `${Math.floor(age / span)} ${name} ago`
}
