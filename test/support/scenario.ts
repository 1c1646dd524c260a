/** Runs a script of ours in a node process of its own, told what to do by lines on its stdin, telling facts by lines of JSON. */

import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { createInterface } from 'node:readline'
import { build } from 'esbuild'

/** Bundles a TypeScript file with the engine's source into `outfile`, which any user may read. */
export async function bundleScenario(source: string, outfile: string): Promise<void> {
  await build({
    entryPoints: [source],
    outfile,
    bundle: true,
    format: 'esm',
    // What is bundled as CommonJS asks for node's modules in its way.
    banner: { js: `import { createRequire } from 'node:module'\nconst require = createRequire(import.meta.url)` },
    platform: 'node',
    target: 'node20.19',
  })
}

export interface Scenario {
  readonly process: ChildProcess
  readonly pid: number
  /** The next line, parsed. Throws when the process ends first, with what it has said on stderr. */
  fact<T>(): Promise<T>
  tell(line: string): void
  /** Resolves when the process has ended, to how. */
  readonly ended: Promise<{ code: number | null; signal: NodeJS.Signals | null; stderr: string }>
}

/** Starts it as the leader of a process group. */
export function startScenario(words: readonly string[], env: NodeJS.ProcessEnv = {}): Scenario {
  const child = spawn(words[0]!, words.slice(1), { stdio: 'pipe', detached: true, env: { ...process.env, ...env } })
  let stderr = ''
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    stderr += text
  })
  child.stdin.on('error', () => {}) // it was killed: that is what most of these tests are about
  const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]()
  const ended = once(child, 'exit').then(([code, signal]) => ({ code, signal, stderr }))
  return {
    process: child,
    pid: child.pid!,
    async fact<T>() {
      const { value, done } = await lines.next()
      if (!done) return JSON.parse(value) as T
      const { code, signal } = await ended
      throw new Error(`The scenario ended (${signal ?? code}) before it told a fact: ${stderr.trim()}`)
    },
    tell: (line) => void child.stdin.write(`${line}\n`),
    ended,
  }
}
