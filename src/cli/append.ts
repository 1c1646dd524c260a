/** Flags that may be given several times. */
import { type Command, Option } from 'commander'

/** Adds a flag whose values are gathered into a list; without it there is no list. */
export function repeatable(command: Command, flags: string, description: string): Command {
  const option = new Option(flags, description).argParser((value: string, previous: readonly string[] = []) => [
    ...previous,
    value,
  ])
  option.negate = false // one whose name begins with "no-" has values like any other
  return command.addOption(option)
}
