/** From what a machine prints to what came of it. The machine's own words are lines that begin with `@ `; see guest/init. */

import type { Kernel } from './kernel.js'
import { pattern } from './suite.js'

export interface Outcome {
  readonly release: string
  readonly kernel: string
  /** `native` are the tests of control groups in C. */
  readonly user: string
  readonly passed: number
  readonly failed: number
  readonly skipped: number
  /** Names of the tests that failed, with the first line of why. */
  readonly failures: readonly string[]
  /** What the doctor found missing, as it says it. */
  readonly degraded: readonly string[]
}

/** Where no container can run, and how the doctor, whose trial is a first start, has to say so. */
const REFUSALS: Readonly<Record<string, RegExp>> = { '11 user': /before Linux 5\.11 only root may mount overlays/ }

/** Of Vitest's JSON, what is read here. */
interface Results {
  readonly testResults: readonly {
    readonly name: string
    readonly status: string
    readonly message: string
    readonly assertionResults: readonly {
      readonly fullName: string
      readonly status: string
      readonly failureMessages: readonly string[]
    }[]
  }[]
}

export class Report {
  readonly #kernel: Kernel
  readonly #results = new Map<string, Pick<Outcome, 'passed' | 'failed' | 'skipped' | 'failures'>>()
  readonly #degraded = new Map<string, string[]>()
  readonly #users: readonly string[]
  #section = ''
  #hasLostRace = false
  #native: string[] = []

  constructor(kernel: Kernel, users: readonly string[]) {
    this.#kernel = kernel
    this.#users = users
  }

  /**
   * The kernel changes its own code under breakpoints, and an emulated processor may run into one of them after it has gone. No
   * real one does, and nothing that runs in the machine has a part in it.
   */
  get hasLostRace(): boolean {
    return this.#hasLostRace
  }

  read(line: string): void {
    this.#hasLostRace ||= /Oops: int3/.test(line)
    const [, word = '', user = '', rest = ''] = /^@ (\w+) ?(\S*) ?(.*)/.exec(line) ?? []
    if (word === 'begin') this.#section = user
    else if (word === 'doctor' && rest !== '0') this.#results.set(user, this.#refused(user))
    else if (word === 'end' && user === 'native') this.#results.set('native', this.#countNative(rest))
    else if (word === 'results') this.#results.set(user, count(rest, user))
    else if (this.#section === 'native') this.#native.push(line)
    else if (/^ {2}[✗–] /.test(line))
      this.#degraded.set(this.#section, [...this.#degradedOf(this.#section), line.trim()])
  }

  outcomes(end: 'off' | 'timeout'): Outcome[] {
    return ['native', ...this.#users].map((user) => {
      const why = end === 'timeout' ? 'the machine was ended at its time limit' : 'the machine ended early'
      const result = this.#results.get(user) ?? { passed: 0, failed: 1, skipped: 0, failures: [why] }
      const { release, version } = this.#kernel
      return { release, kernel: version, user, ...result, degraded: this.#degradedOf(user) }
    })
  }

  #degradedOf(user: string): string[] {
    return this.#degraded.get(user) ?? []
  }

  #refused(user: string) {
    const complaints = this.#degradedOf(user).filter((line) => line.startsWith('✗'))
    const expected = REFUSALS[`${this.#kernel.release} ${user}`]
    return complaints.some((line) => expected?.test(line))
      ? { passed: 1, failed: 0, skipped: 0, failures: [] }
      : { passed: 0, failed: 1, skipped: 0, failures: complaints }
  }

  #countNative(code: string) {
    const of = (pattern: RegExp) => this.#native.filter((line) => pattern.test(line))
    const failures = of(/^FAILED|^failed/)
    const failed = code === '0' ? 0 : Math.max(1, failures.length)
    return { passed: of(/^ok\b/).length, failed, skipped: of(/^skipped/).length, failures }
  }
}

function count(text: string, user: string): Pick<Outcome, 'passed' | 'failed' | 'skipped' | 'failures'> {
  let results: Results
  try {
    results = JSON.parse(text)
  } catch {
    return { passed: 0, failed: 1, skipped: 0, failures: ['the results cannot be read: see the log'] }
  }
  const tests = results.testResults.flatMap((file) => file.assertionResults)
  const failures = tests
    .filter(({ status }) => status === 'failed')
    .map(({ fullName, failureMessages }) => `${fullName}: ${failureMessages[0]?.split('\n')[0] ?? ''}`)
  const broken = results.testResults
    .filter(
      ({ status, assertionResults }) =>
        status === 'failed' && !assertionResults.some((test) => test.status === 'failed'),
    )
    .map(({ name, message }) => `${name}: ${message.split('\n')[0]}`)
  const passed = tests.filter(({ status }) => status === 'passed').length
  const wanted = new RegExp(pattern(user))
  const skipped = tests.filter(({ status, fullName }) => status === 'skipped' && wanted.test(fullName)).length
  return { passed, failed: failures.length + broken.length, skipped, failures: [...failures, ...broken] }
}
