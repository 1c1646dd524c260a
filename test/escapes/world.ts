/** What the cases of escapes have in common: an engine, a root file system with hostile programs, and a directory outside with canaries. */

import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { type Container, type ContainerOptions, Engine, type RunResult } from '../../src/index.ts'
import { makeRootfs } from '../support/rootfs.ts'

/** One attack. It throws when it succeeds. The canaries are looked at after each. */
export interface Case {
  readonly name: string
  /** Where it says something. @default both */
  readonly as?: 'root' | 'ordinary user'
  run(world: EscapeWorld): Promise<void>
}

export interface EscapeWorld {
  readonly engine: Engine
  readonly rootfs: { readonly directory: string }
  /** On the host, readable and writable for who runs the engine: `canary` says `untouched`, `secret` says `classified`. */
  readonly outside: string
  run(script: string, more?: Partial<ContainerOptions>): Promise<RunResult>
  /** Starts `script`, and waits until it has printed `until`. */
  start(script: string, until: string, more?: Partial<ContainerOptions>): Promise<Container>
  /** A copy of the root file system, with something in it changed by a shell that is in it. `$OUTSIDE` is the directory outside. */
  variant(script: string): { readonly rootfs: { readonly directory: string } }
  /** Throws when anything in the directory outside is not as it was. */
  assertUntouched(): void
}

const PROGRAMS = ['swap', 'hunt', 'advertise', 'sharp']

/** Makes root file system and directory outside in `directory`. Needs a C compiler. */
export function layOut(directory: string, source: string): void {
  makeRootfs(join(directory, 'rootfs'))
  for (const name of PROGRAMS) {
    const words = ['-O1', '-static', '-Wall', '-Wextra', '-Werror', '-o', join(directory, 'rootfs/bin', name)]
    execFileSync('gcc', [...words, join(source, `${name}.c`)])
  }
  mkdirSync(join(directory, 'outside'))
  writeFileSync(join(directory, 'outside/canary'), 'untouched')
  writeFileSync(join(directory, 'outside/secret'), 'classified')
}

/** Opens the engine upon what layOut has made. */
export async function openWorld(directory: string): Promise<EscapeWorld> {
  const engine = await Engine.open({ home: join(directory, 'home') })
  const outside = join(directory, 'outside')
  const rootfs = { directory: join(directory, 'rootfs') }
  let variants = 0
  return {
    engine,
    rootfs,
    outside,
    run: (script, more) => engine.run({ rootfs, command: ['sh', '-c', script], ...more }),
    start: async (script, until, more) => {
      const container = await engine.start({ rootfs, command: ['sh', '-c', script], ...more })
      await container.waitForLog(until, { timeoutMs: 10_000 })
      return container
    },
    variant: (script) => {
      const copy = join(directory, `variant-${++variants}`)
      execFileSync('cp', ['-a', rootfs.directory, copy])
      execFileSync('sh', ['-ec', script], { cwd: copy, env: { ...process.env, OUTSIDE: outside } })
      return { rootfs: { directory: copy } }
    },
    assertUntouched: () => {
      assert.deepEqual(readdirSync(outside).sort(), ['canary', 'secret'])
      assert.equal(readFileSync(join(outside, 'canary'), 'utf8'), 'untouched')
      assert.equal(readFileSync(join(outside, 'secret'), 'utf8'), 'classified')
    },
  }
}

/** Resolves to the refusal, which must be ours, or undefined when there was none. */
export async function refusal(work: Promise<unknown>): Promise<Error | undefined> {
  try {
    await work
    return undefined
  } catch (error) {
    assert.equal((error as Error).name, 'MayflyError', String(error))
    return error as Error
  }
}

/** Does it again and again, whether it succeeds or is refused. Resolves to how often it succeeded. */
export async function persist(milliseconds: number, work: (round: number) => Promise<unknown>): Promise<number> {
  let succeeded = 0
  const end = performance.now() + milliseconds
  for (let round = 0; performance.now() < end; round++) if (!(await refusal(work(round)))) succeeded++
  return succeeded
}
