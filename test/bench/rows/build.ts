/** Building images: with everything cached, after a small change, step by step, and a whole Dockerfile that installs PostgreSQL. */

import { execFileSync } from 'node:child_process'
import { createReadStream, existsSync, mkdirSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { alternate, type Contender, median, type Rounds, timed } from '../measure.ts'
import type { Rival } from '../rivals/rival.ts'
import { duration, milliseconds, type Row, times } from '../table.ts'
import type { Measurement, Scene } from './scene.ts'

const CACHED_STEPS = 20
const CACHED_GOAL_MS = 20
const CACHED_FASTER_GOAL = 10
const FILES = 5_000
const FILES_FASTER_GOAL = 2
const TRUE_STEPS = 10
const TRUE_GOAL_MS = 10
const TRUE_FASTER_GOAL = 30
/** As the rivals have imported it. */
const BASE = 'bench'
const DEBIAN = 'bench-debian'
const POSTGRES = 'postgresql-15'

export const build: Measurement = async (scene) => {
  await scene.engine.images.import(createReadStream(scene.world.tar), { reference: BASE })
  return [
    ...(await cachedSteps(scene)),
    ...(await manyFiles(scene)),
    ...(await stepsOfTrue(scene)),
    ...(await postgres(scene)),
  ]
}

/** Someone who builds what lies in a directory. */
interface Builder {
  readonly name: string
  build(directory: string, options?: { readonly noCache?: boolean }): Promise<void>
}

function builders(scene: Scene): Builder[] {
  const mayfly: Builder = {
    name: 'mayfly',
    build: async (directory, options = {}) => {
      await scene.engine.images.build({ context: { directory }, ...options })
    },
  }
  return [mayfly, ...scene.rivals.flatMap((rival) => builderOf(rival) ?? [])]
}

function builderOf(rival: Rival): Builder | undefined {
  const { name, build: buildIt } = rival
  return buildIt && { name, build: (directory, options) => buildIt.call(rival, directory, options) }
}

/** A context of its own for everyone who builds: what one changes is not the others'. */
function contexts(scene: Scene, name: string, fill: (directory: string) => void): (who: string) => string {
  return (who) => {
    const directory = join(scene.world.directory, `build-${name}-${who}`)
    if (!existsSync(directory)) {
      mkdirSync(directory)
      fill(directory)
    }
    return directory
  }
}

async function cachedSteps(scene: Scene): Promise<Row[]> {
  const context = contexts(scene, 'cached', (directory) => {
    writeFileSync(join(directory, 'file'), 'content')
    const steps = Array.from({ length: CACHED_STEPS }, (_, index) =>
      index % 4 === 1 ? `COPY file /data/${index}` : index % 4 === 3 ? `WORKDIR /work/${index}` : run(`step ${index}`),
    )
    writeDockerfile(directory, BASE, steps)
  })
  const contenders = builders(scene).map(
    ({ name, build }): Contender => ({ name, round: () => timed(() => build(context(name))) }),
  )
  return compare(scene, contenders, {
    name: 'build, cached',
    what: `build of a Dockerfile of ${CACHED_STEPS} steps, everything cached`,
    rounds: { rounds: scene.quick ? 5 : 20, warmUp: 1, restMs: 50 },
    goalMs: CACHED_GOAL_MS,
    faster: { docker: CACHED_FASTER_GOAL },
  })
}

async function manyFiles(scene: Scene): Promise<Row[]> {
  const context = contexts(scene, 'files', (directory) => {
    writeDockerfile(directory, BASE, ['COPY files /files/'])
    for (let index = 0; index < FILES; index++) {
      const below = join(directory, 'files', String(index % 50))
      if (index < 50) mkdirSync(below, { recursive: true })
      writeFileSync(join(below, `${index}.js`), `export const number = ${index}\n`.repeat(20))
    }
  })
  let change = 0
  const contenders = builders(scene).map(
    ({ name, build }): Contender => ({
      name,
      round: async () => {
        const directory = context(name)
        const file = `files/${change % 50}/${change % FILES}.js`
        writeFileSync(join(directory, file), `export const number = 'changed ${change++}'\n`)
        return timed(() => build(directory))
      },
    }),
  )
  return compare(scene, contenders, {
    name: 'build, one file changed',
    what: `build of a COPY of ${FILES.toLocaleString('en')} small files, of which one has changed`,
    rounds: { rounds: scene.quick ? 3 : 10, warmUp: 2, restMs: 200 },
    faster: { docker: FILES_FASTER_GOAL },
  })
}

/** What one more step costs: a Dockerfile with many, less one that has one, by the number of the others. */
async function stepsOfTrue(scene: Scene): Promise<Row[]> {
  const context = contexts(scene, 'true', () => {})
  let count = 0
  const contenders = builders(scene).map(
    ({ name, build }): Contender => ({
      name,
      round: async () => {
        const directory = context(name)
        const time = (steps: number) => {
          const lines = Array.from({ length: steps }, () => run(`true ${count++}`))
          writeDockerfile(directory, BASE, lines)
          return timed(() => build(directory))
        }
        const one = await time(1)
        return ((await time(1 + TRUE_STEPS)) - one) / TRUE_STEPS
      },
    }),
  )
  return compare(scene, contenders, {
    name: 'build, RUN true',
    what: `RUN true, of a build of ${1 + TRUE_STEPS} of them: each`,
    rounds: { rounds: scene.quick ? 3 : 10, warmUp: 1, restMs: 200 },
    goalMs: TRUE_GOAL_MS,
    faster: { docker: TRUE_FASTER_GOAL },
  })
}

/** Its packages lie in the context: how fast a mirror is does not count. */
async function postgres(scene: Scene): Promise<Row[]> {
  if (!existsSync('/usr/bin/mmdebstrap')) {
    console.error('build of PostgreSQL is left out: apt-get install mmdebstrap')
    return []
  }
  const { base, packages } = debian()
  await scene.engine.images.import(createReadStream(base), { reference: DEBIAN })
  for (const rival of scene.rivals) await rival.importImage?.(base, DEBIAN)
  const context = contexts(scene, 'postgres', (directory) => {
    execFileSync('cp', ['-a', packages, join(directory, 'packages')])
    writeDockerfile(directory, DEBIAN, [
      'ENV DEBIAN_FRONTEND=noninteractive LC_ALL=C.UTF-8',
      'COPY packages /packages/',
      'RUN apt-get install --yes --no-install-recommends /packages/*.deb && rm -r /packages',
      `RUN /usr/lib/postgresql/15/bin/postgres --version`,
      'USER postgres',
      'CMD ["/usr/lib/postgresql/15/bin/postgres", "-D", "/var/lib/postgresql/15/main"]',
    ])
  })
  const contenders = builders(scene).map(
    ({ name, build }): Contender => ({
      name,
      round: () => timed(() => build(context(name), { noCache: true })),
    }),
  )
  return compare(scene, contenders, {
    name: 'build of PostgreSQL',
    what: 'build of a Dockerfile that installs PostgreSQL 15 on Debian, cold, packages in the context',
    rounds: { rounds: scene.quick ? 1 : 5, warmUp: scene.quick ? 0 : 1, restMs: 1_000 },
    faster: { docker: 1, podman: 1 },
  })
}

interface Comparison {
  /** Of the samples. */
  readonly name: string
  readonly what: string
  readonly rounds: Rounds
  readonly goalMs?: number
  /** At least so many times as fast as these. */
  readonly faster: Readonly<Record<string, number>>
}

async function compare(scene: Scene, contenders: readonly Contender[], comparison: Comparison): Promise<Row[]> {
  const { name, what, rounds, goalMs, faster } = comparison
  const samples = await alternate(contenders, rounds)
  for (const [who, values] of samples) scene.record(`${name}: ${who}`, values)
  const ours = samples.get('mayfly')!
  const rows: Row[] = [
    {
      what,
      measured: milliseconds(ours),
      goal: goalMs === undefined ? '' : `≤ ${goalMs} ms`,
      ratio: '',
      ...(goalMs === undefined ? {} : { hit: median(ours) <= goalMs }),
    },
  ]
  for (const [who, theirs] of samples) {
    if (who === 'mayfly') continue
    const ratio = median(theirs) / median(ours)
    const goal = faster[who]
    rows.push({
      what: `the same, beside \`${who} build\``,
      measured: `${duration(median(ours))}, ${who} ${milliseconds(theirs)}`,
      goal: goal === undefined ? '' : goal === 1 ? 'faster' : `≥ ${goal} × faster`,
      ratio: `${times(ratio)} faster`,
      ...(goal === undefined ? {} : { hit: goal === 1 ? ratio > 1 : ratio >= goal }),
    })
  }
  return rows
}

/** The base has no shell. */
function run(argument: string): string {
  return `RUN ["/bin/busybox", "true", "${argument}"]`
}

function writeDockerfile(directory: string, from: string, steps: readonly string[]): void {
  writeFileSync(join(directory, 'Dockerfile'), `FROM ${from}\n${steps.join('\n')}\n`)
}

/** Debian 12 and the packages of PostgreSQL. Made once on this machine: it takes a minute and the distribution's mirror. */
function debian(): { readonly base: string; readonly packages: string } {
  const cache = join(tmpdir(), 'mayfly-bench-postgres-15')
  const found = { base: join(cache, 'base.tar'), packages: join(cache, 'packages') }
  if (existsSync(cache)) return found
  const making = `${cache}.${process.pid}`
  mkdirSync(join(making, 'packages'), { recursive: true })
  console.error('build: fetching Debian and PostgreSQL with mmdebstrap, once')
  const install = ['-qq', 'install', '--yes', '--no-install-recommends', '--download-only', POSTGRES].join(' ')
  try {
    execFileSync(
      'mmdebstrap',
      [
        '--quiet',
        '--variant=minbase',
        '--skip=cleanup/apt/cache',
        `--customize-hook=APT_CONFIG="$MMDEBSTRAP_APT_CONFIG" apt-get ${install} > /dev/null`,
        `--customize-hook=cp "$1"/var/cache/apt/archives/*.deb '${making}/packages/'`,
        '--customize-hook=rm "$1"/var/cache/apt/archives/*.deb',
        'bookworm',
        join(making, 'base.tar'),
      ],
      { stdio: ['ignore', 'ignore', 'inherit'] },
    )
    renameSync(making, cache)
  } finally {
    rmSync(making, { recursive: true, force: true })
  }
  return found
}
