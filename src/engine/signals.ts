/** Signal numbers as names. */

import { constants } from 'node:os'

const NAMES = new Map(Object.entries(constants.signals).map(([name, number]) => [number, name]))
// Node lists some numbers under two names; these are the usual ones.
for (const name of ['SIGABRT', 'SIGIO'] as const) NAMES.set(constants.signals[name], name)

/** `SIGKILL` for 9; `SIG34` for a number without a name. */
export function signalName(number: number): string {
  return NAMES.get(number) ?? `SIG${number}`
}
