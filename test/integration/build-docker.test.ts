/**
 * What Docker (BuildKit) makes of a Dockerfile, we make too: the same files with modes, owners, times and contents, and the same configuration.
 * What it refuses, we refuse.
 */

import { execFile, execFileSync } from 'node:child_process'
import { chmodSync, chownSync, cpSync, linkSync, mkdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { promisify } from 'node:util'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { receiveArchive } from '../../src/engine/archive.js'
import type { BuildResult } from '../../src/engine/build/options.js'
import { importImage } from '../../src/engine/image-import.js'
import { Workspace } from '../../src/engine/workspace.js'
import { type BuildWorld, openWorld } from '../engine/build/support/world.js'
import { type Dockerd, missingDocker, startDockerd } from '../support/dockerd.js'
import { missingBusybox } from '../support/rootfs.js'
import { tarEntries } from '../support/tar-entries.js'

const run = promisify(execFile)

interface Case {
  /** After `FROM base`, unless it has a FROM of its own. */
  readonly dockerfile: string
  readonly ignore?: string
  readonly args?: Readonly<Record<string, string>>
  readonly target?: string
  /** The context is sent as a tar. */
  readonly isTar?: boolean
}

/**
 * Where we differ on purpose, from this Docker or from all of them: why, and what exactly. `null`: we refuse.
 *
 * The Docker of Debian 12 has a BuildKit of 2021; what later ones have changed as we do it is said.
 */
const DIFFERENCES: Readonly<Record<string, { readonly why: string; readonly lines: readonly RegExp[] | null }>> = {
  'copies several files without a slash at the end': { why: 'each would overwrite the one before', lines: null },
  'copies several that match, without a slash': { why: 'each would overwrite the one before', lines: null },
  'copies a pattern that matches nothing and a file, without a slash': {
    why: 'whether it is refused must not depend on what matches',
    lines: null,
  },
  'copies what the directory above has': { why: 'whoever writes ../a does not mean the a of the context', lines: null },
  'copies for an owner that nobody is': {
    why: 'the files would be root’s, and its documentation says that it fails',
    lines: null,
  },
  'copies with a mode': {
    why: 'a mode that is written is the whole mode, set-user-id and sticky bits included',
    lines: [/^\/dst\/sub: dir 0640 /, /^\/dst\/two: file 0640 /, /^\/new\/b: file 7711 /],
  },
  'copies an archive for an owner': {
    why: 'what is unpacked gets the owner that is asked for',
    lines: [/^\/dst\/in\/file: .* 1000:1000 /, /^\/dst\/in\/link: .* 1000:1000 /, /^\/dst\/in: .* 1000:1000, /],
  },
  'runs a bind mount': { why: 'mount points do not stay; later ones remove them too', lines: [/^\/in: nothing, /] },
  'runs a temporary file system': {
    why: 'mount points do not stay; later ones remove them too',
    lines: [/^\/t\/u: nothing, /, /^\/t: nothing, /],
  },
}

const copying: Record<string, string> = {
  'one file under another name': 'COPY a /dst',
  'one file into a directory': 'COPY a /dst/',
  'several files into a directory': 'COPY a b exec /dst/',
  'several files without a slash at the end': 'COPY a b /dst',
  'several files over a directory without a slash': 'RUN mkdir /dst\nCOPY a b /dst',
  'a directory under another name': 'COPY dir /dst',
  'a directory into a directory': 'COPY dir/ /dst/',
  'a directory and a file': 'COPY dir exec /dst/',
  'below directories that are missing': 'COPY dir/sub /new/deep/path\nCOPY a /newer/deep/',
  'links that are named': 'COPY link-to-file link-to-dir /dst/',
  'a path through a link': 'COPY link-to-dir/sub/three /dst',
  everything: 'COPY . /all',
  'everything into the working directory': 'WORKDIR /w/x\nCOPY . .\nCOPY ./a ./other\nCOPY /a ../up',
  'files that match': 'COPY glob/*.txt glob/[a-z]? /dst/',
  'several that match, without a slash': 'COPY glob/a*.txt /dst',
  'one that matches, without a slash': 'COPY glob/b*.txt /dst',
  'directories that match': 'COPY di? /dst/',
  'matches below directories that match': 'COPY d*/sub/t* /dst/',
  'a pattern that matches nothing': 'COPY nothing* /dst/',
  'a pattern that matches nothing, and a file': 'COPY a nothing* /dst/',
  'a pattern that matches nothing and a file, without a slash': 'COPY a nothing* /dst',
  'a pattern with brackets': 'COPY glob/[[]x].txt /dst/',
  'names with spaces': 'COPY ["with space", "ü", "/dst/a b/"]',
  'what is not there': 'COPY missing /dst',
  'what the directory above has': 'COPY ../a /dst',
  'what is outside': 'COPY ../outside /dst',
  'for an owner by name': 'COPY --chown=alice dir /new/dst/',
  'for an owner and a group':
    'COPY --chown=alice:nogroup a b /dst/\nCOPY --chown=12:34 a /dst/c\nCOPY --chown=77 dir /e',
  'for owners that are half said':
    'ENV g=nogroup\nCOPY --chown=:$g a /1\nCOPY --chown=alice: a /2\nCOPY --chown=: a /3\nCOPY --chown=$none a /4',
  'for an owner that nobody is': 'COPY --chown=stranger a /dst',
  'with a mode': 'COPY --chmod=0640 dir /dst/\nCOPY --chmod=7711 a /new/b',
  'over a directory with a mode of its own': 'RUN mkdir -m 700 -p /dst/sub && touch /dst/sub/three\nCOPY dir /dst',
  'over a link to a directory': 'RUN mkdir /real && ln -s real /dst\nCOPY dir /dst\nCOPY a /dst/',
  'over a link to a file': 'RUN ln -s tmp/target /dst && touch /tmp/target\nCOPY a /dst',
  'over a link that leads nowhere': 'RUN ln -s tmp/nowhere /dst\nCOPY a /dst',
  'through a link that leads up': 'RUN ln -s ../../../../tmp /dst\nCOPY a /dst/x/y',
  'a file over a directory': 'COPY a /etc',
  'a file over a directory of that name': 'RUN mkdir -p /dst/a\nCOPY a /dst/',
  'a directory over a file': 'RUN touch /dst\nCOPY dir /dst',
  'a destination with points': 'COPY a /dst/.\nCOPY b /x/../y/./z\nCOPY a /',
  'with variables': 'ARG n=dst\nENV from=a\nCOPY --chown=$UID_:2 ${from} /$n/${from:+set}\n'.replace(
    '$UID_',
    '${uid:-5}',
  ),
  archives: 'ADD archive.tar.gz archive.tar /dst/\nADD no-archive.tar.gz /dst/\nCOPY archive.tar /kept/',
  'an archive for an owner': 'ADD --chown=alice archive.tar /dst/\nADD archive.tar /name',
  'an archive over what is there': 'RUN mkdir -p /dst/in && echo old > /dst/in/file\nADD archive.tar /dst',
  'an archive with an entry for its top': 'RUN mkdir -m 700 /dst\nADD top.tar /dst/\nADD top.tar /new',
}

const stages: Record<string, string> = {
  'from a stage, with its owners':
    'FROM base AS s\nRUN mkdir -p -m 711 /s/t && echo x > /s/f && chown -R alice:nogroup /s && ln -s f /s/l && chmod 4711 /s/f\n' +
    'FROM base\nCOPY --from=s /s /dst\nCOPY --from=0 /s/l /s/f* /n/\nCOPY --from=s --chown=9:9 s/t /o/\nCOPY --from=base /etc/group /g',
  'the root of a stage': 'FROM scratch AS s\nCOPY dir /x/\nFROM base\nCOPY --from=s / /dst/\nCOPY --from=s . /dot',
  'out of a stage by a link': 'FROM base AS s\nRUN ln -s ../../etc/group /l\nFROM base\nCOPY --from=s /l /dst',
  scratch: 'FROM scratch\nCOPY dir /\nLABEL a=b\nCMD ["/x"]',
  'what triggers say':
    'FROM base AS s\nONBUILD ENV x=y\nONBUILD COPY a /triggered\nONBUILD WORKDIR /t\nFROM s\nRUN pwd > /p',
  'a stage upon a stage':
    'FROM base AS s\nENV a=1\nWORKDIR /q\nUSER alice\nARG x=1\nFROM s\nRUN echo "$a $x" > /tmp/o\nCOPY a rel',
  'an argument before the first stage': 'ARG v=base\nARG n=7\nFROM ${v} AS s\nARG n\nRUN echo "$n-$v" > /o',
}

const configuring: Record<string, string> = {
  environment:
    'ENV a=1 b="x y" c=x\\ y d=$a\nENV old  form  with spaces\nENV e=${a:-9}${z:-9}${a:+7} f=\'$a\' g="\\$a" a=2',
  arguments: 'ARG x=1\nARG y\nARG z=${x}2\nENV x=env\nRUN echo "$x $y $z" > /o\nENV w=$z',
  'working directories': 'WORKDIR /a\nWORKDIR b/../c\nENV d=/x\nWORKDIR $d/y\nWORKDIR z\nRUN pwd > /o',
  'a working directory of a user': 'USER alice\nWORKDIR /home/alice/w\nWORKDIR /etc\nUSER root\nRUN pwd > /p',
  'a user and a working directory of nothing':
    'USER alice\nWORKDIR /w\nUSER $none\nWORKDIR $none\nRUN id -u > o; pwd > /p',
  'an argument after the variable of its name':
    'ENV a=env\nARG a=arg\nENV b=$a\nRUN echo "$a" > /o\nENV a=again\nRUN echo "$a" > /p',
  'a working directory through a link': 'RUN ln -s tmp /l\nWORKDIR /l/w',
  commands: 'ENTRYPOINT ["/e", "x"]\nCMD ["a", "b"]',
  'a command in a shell': 'SHELL ["/bin/busybox", "sh", "-c"]\nCMD echo $HOME "x"\nENTRYPOINT exec top -b',
  'an entrypoint that clears the command': 'ENTRYPOINT ["/e"]',
  'an entrypoint after the command': 'CMD ["a"]\nENTRYPOINT ["/e"]',
  'empty commands': 'CMD []\nENTRYPOINT []',
  'ports, volumes, labels and signals':
    'EXPOSE 80 81/udp 8000-8002/tcp $p\nVOLUME /v /w\nVOLUME ["/x y"]\nLABEL a=b "c d"="e f" g=\'h\'\nLABEL old form\nSTOPSIGNAL SIGQUIT\nUSER 7:8\nMAINTAINER me'.replace(
      '$p',
      '82',
    ),
  'a health check': 'HEALTHCHECK --interval=5s --timeout=1m30s --start-period=500ms --retries=3 CMD curl "x" || exit 1',
  'a health check without a shell': 'HEALTHCHECK CMD ["a", "b"]',
  'no health check': 'HEALTHCHECK CMD x\nHEALTHCHECK NONE',
  triggers: 'ONBUILD RUN echo $x\nONBUILD   COPY . /y\nONBUILD ENV a=b',
  'a volume that is written to afterwards': 'VOLUME /v\nRUN echo x > /v/f\nCOPY a /v/',
}

const running: Record<string, string> = {
  'what programs make':
    'RUN umask; umask 027; mkdir /m && echo x > /m/f && mkfifo /m/p && ln /m/f /m/h && chown -R 3:4 /m/p && touch -d @5 /m/f',
  'what programs remove':
    'COPY dir /dst\nRUN rm -r /dst/sub /dst/one && mv /dst/link /dst/moved\nRUN rm -rf /dst && mkdir /dst && touch -d @9 /dst/new',
  'lines that go on': 'RUN echo a \\\n  # a comment\n\n  b   c \\\n  > /o && touch -d @1 /o',
  'another escape': '# escape=`\nFROM base\nRUN echo a `\n b > /o && touch -d @1 /o\nENV p=C:\\x',
  'without a shell': 'RUN ["sh", "-c", "echo $0 $HOME $PWD > /o; touch -d @1 /o", "x"]',
  // Not its groups: that Docker knew of none besides the user's own was a fault of its (CVE-2022-36109).
  'as a user':
    'USER alice\nRUN id -u > /tmp/o; id -g >> /tmp/o; env | grep -v HOSTNAME | sort >> /tmp/o; touch -d @1 /tmp/o\nCOPY a /tmp/',
  'a program that fails': 'RUN exit 3',
  'a bind mount':
    'RUN --mount=target=/in cp -a /in/dir /o && touch /o/x -d @3\nRUN --mount=type=bind,source=dir,target=/in,rw touch /in/y && ls /in > /p; touch -d @3 /p',
  'a bind mount of a file': 'RUN --mount=type=bind,source=a,target=/in cp -a /in /o; touch -d @3 /o',
  'as a group alone':
    'USER :2000\nRUN id -u > /tmp/o; id -g >> /tmp/o; touch -d @1 /tmp/o\nUSER alice:\nRUN id -g > /tmp/p; touch -d @1 /tmp/p',
  'a temporary file system': 'RUN --mount=type=tmpfs,target=/t/u touch /t/u/x && ls /t/u > /o; touch -d @3 /o',
}

const ignoring: Record<string, Case> = {
  'all but a directory': { dockerfile: 'COPY . /c', ignore: '*\n!dir\n' },
  'names at any depth': { dockerfile: 'COPY . /c', ignore: '**/t*\n**/*.txt\n' },
  'a directory but for a file': { dockerfile: 'COPY . /c', ignore: 'dir\n!dir/sub/three\nglob/\n' },
  'slashes, comments and spaces': { dockerfile: 'COPY . /c', ignore: '# a\n  /a  \n/dir/one/\n\n ./exec\nglob/../b\n' },
  'what is in a directory': { dockerfile: 'COPY . /c\nCOPY dir /d', ignore: 'dir/*\n!dir/o*\n' },
  'exceptions and their exceptions': { dockerfile: 'COPY . /c', ignore: '*\n!glob/*.txt\nglob/a1.txt\n!glob/a?.txt\n' },
  'what is copied': { dockerfile: 'COPY a /c', ignore: 'a\n' },
  'what a pattern would match': { dockerfile: 'COPY glob/a*.txt /c/', ignore: 'glob/a1.txt\n' },
  'the Dockerfile itself': { dockerfile: 'COPY . /c', ignore: 'Dockerfile\n.dockerignore\nglob\ndir\n' },
}

const arguing: Record<string, Case> = {
  'arguments that are given': {
    dockerfile: 'ARG base=none\nFROM $base\nARG x=1\nARG y\nRUN echo "$x $y $z" > /o; touch -d @1 /o\nENV k=$x$y',
    args: { base: 'base', x: '2', y: 'a b' },
  },
  'a target': {
    dockerfile: 'FROM base AS one\nENV a=1\nFROM nowhere AS two\nRUN false\nFROM one AS Three\nENV b=2\nFROM two',
    target: 'three',
  },
}

const tarContexts: Record<string, Case> = {
  'owners of a tar': { dockerfile: 'COPY dir b /dst/\nCOPY dir /d\nCOPY --chown=3:4 b /e', isTar: true },
  'all of a tar, whatever its .dockerignore says': {
    dockerfile: 'COPY . /c',
    ignore: 'dir\n!dir/two\nglob\n',
    isTar: true,
  },
}

const plain = (prefix: string, table: Record<string, string>) =>
  Object.entries(table).map(([name, dockerfile]): [string, Case] => [`${prefix}${name}`, { dockerfile }])
const CASES: readonly (readonly [string, Case])[] = [
  ...plain('copies ', copying),
  ...plain('copies ', stages),
  ...plain('sets ', configuring),
  ...plain('runs ', running),
  ...Object.entries(ignoring).map(([name, one]): [string, Case] => [`ignores ${name}`, one]),
  ...Object.entries(tarContexts).map(([name, one]): [string, Case] => [`takes ${name}`, one]),
  ...Object.entries(arguing).map(([name, one]): [string, Case] => [`takes ${name}`, one]),
]

type Outcome = { readonly files: Record<string, string>; readonly config: object } | { readonly refused: string }

const reason = process.getuid?.() !== 0 ? 'needs root' : (missingBusybox() ?? missingDocker())
if (reason) console.warn(`skipped: builds as Docker does them: ${reason}`)

describe.skipIf(reason)('as Docker does it, the build', () => {
  let world: BuildWorld
  let docker: Dockerd
  let fixture: string
  const outcomes = new Map<string, Promise<Outcome>>()

  beforeAll(async () => {
    ;[world, docker] = await Promise.all([openWorld(), startDockerd()])
    // Docker makes what it mounts over where it is missing, and leaves it there.
    const rootfs = join(world.directory, 'rootfs')
    for (const name of ['etc/hosts', 'etc/resolv.conf']) writeFileSync(join(rootfs, name), '')
    for (const name of ['dev/pts', 'dev/shm', 'dev/mqueue']) mkdirSync(join(rootfs, name))
    const base = join(docker.directory, 'base.tar')
    execFileSync('tar', ['-C', rootfs, '--numeric-owner', '--owner=0', '--group=0', '-cf', base, '.'])
    await docker.docker('import', '--change', `ENV PATH=${PATH}`, '--change', 'CMD ["sh"]', base, 'base')
    await importImage(world.context, [readFileSync(base)], {
      references: ['base'],
      history: {},
      config: { Env: [`PATH=${PATH}`], Cmd: ['sh'] },
    })
    fixture = join(docker.directory, 'fixture')
    makeFixture(fixture)
    // Docker is the slower one: it builds two at a time, all that comes next.
    let last: Promise<unknown>[] = [Promise.resolve(), Promise.resolve()]
    CASES.forEach(([name, one], index) => {
      const outcome = last[index % 2]!.then(() => byDocker(name, one))
      outcome.catch(() => {})
      outcomes.set(name, outcome)
      last = last.with(
        index % 2,
        outcome.catch(() => {}),
      )
    })
  }, 60_000)

  afterAll(async () => {
    await Promise.allSettled(outcomes.values())
    await docker?.[Symbol.asyncDispose]()
    await world?.[Symbol.asyncDispose]()
  })

  test.each(CASES)('%s', { timeout: 60_000 }, async (name, one) => {
    const [ours, theirs] = await Promise.all([byUs(name, one), outcomes.get(name)!])
    const { lines } = DIFFERENCES[name] ?? { lines: [] }
    if ('refused' in theirs || 'refused' in ours) {
      const refusals = { ours: refusalOf(ours), theirs: refusalOf(theirs) }
      const isRefused = lines === null || 'refused' in theirs
      expect('refused' in ours, JSON.stringify(refusals)).toBe(isRefused)
      return
    }
    expect(lines, 'we refuse').not.toBeNull()
    const found = differences(ours.files, theirs.files).sort()
    expect(found).toEqual(lines?.map((line) => expect.stringMatching(line)))
    expect(ours.config).toEqual(theirs.config)
  })

  /** A directory with the context's files and this Dockerfile. */
  function contextOf(name: string, { dockerfile, ignore }: Case): string {
    const directory = join(docker.directory, 'contexts', name.replace(/\W+/g, '-'))
    cpSync(fixture, directory, { recursive: true, preserveTimestamps: true, verbatimSymlinks: true })
    // cpSync keeps neither owners nor hard links.
    dressFixture(directory)
    writeFileSync(join(directory, 'Dockerfile'), textOf(dockerfile))
    if (ignore !== undefined) writeFileSync(join(directory, '.dockerignore'), ignore)
    execFileSync('touch', ['-d', '@1000000000', join(directory, 'Dockerfile')])
    return directory
  }

  async function byDocker(name: string, one: Case): Promise<Outcome> {
    const directory = contextOf(name, one)
    const tag = `t${CASES.findIndex(([other]) => other === name)}`
    const tar = join(docker.directory, `${tag}.tar`)
    const [program = '', ...words] = docker.client
    const args = Object.entries(one.args ?? {}).flatMap(([key, value]) => ['--build-arg', `${key}=${value}`])
    if (one.target) args.push('--target', one.target)
    const env = { ...process.env, DOCKER_BUILDKIT: '1', DOCKER_CONFIG: docker.directory }
    const command = [program, ...words, 'build', '--progress=plain', ...args]
    const build = (...more: string[]) =>
      one.isTar
        ? run('sh', ['-c', 'tar -C "$0" --numeric-owner -cf - . | "$@" -', directory, ...command, ...more], { env })
        : run(command[0]!, [...command.slice(1), ...more, directory], { env })
    try {
      await build('-t', tag)
    } catch (error) {
      return { refused: (error as { stderr: string }).stderr.slice(-400) }
    }
    await build('--output', `type=tar,dest=${tar}`)
    const [image] = JSON.parse(await docker.docker('image', 'inspect', tag))
    return { files: tarEntries(readFileSync(tar)), config: shown(image.Config) }
  }

  async function byUs(name: string, one: Case): Promise<Outcome> {
    const directory = join(world.fresh(), 'c')
    execFileSync('cp', ['-a', fixture, directory])
    writeFileSync(join(directory, 'Dockerfile'), textOf(one.dockerfile))
    if (one.ignore !== undefined) writeFileSync(join(directory, '.dockerignore'), one.ignore)
    execFileSync('touch', ['-d', '@1000000000', join(directory, 'Dockerfile')])
    const options = { ...(one.args ? { buildArgs: one.args } : {}), ...(one.target ? { target: one.target } : {}) }
    let result: BuildResult
    try {
      const tar = () =>
        execFileSync('tar', ['-C', directory, '--numeric-owner', '-cf', '-', '.'], { maxBuffer: 1 << 26 })
      result = await world.build({ context: one.isTar ? { tar: [tar()] } : { directory }, ...options })
    } catch (error) {
      return { refused: (error as Error).message }
    }
    const { session } = world.context
    const workspace = await Workspace.open(session, result.image.layers.map(({ tree }) => tree).reverse())
    try {
      const pieces: Uint8Array[] = []
      const words = ['id', workspace.id, 'path', '/']
      for await (const piece of receiveArchive(session, words, { verb: 'read', container: name })) pieces.push(piece)
      return { files: tarEntries(Buffer.concat(pieces)), config: shown(result.image.config.config ?? {}) }
    } finally {
      await workspace.remove()
    }
  }
})

const PATH = '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin'

function textOf(dockerfile: string): string {
  return `${/^(#.*\n|ARG.*\n)*FROM /.test(dockerfile) ? '' : 'FROM base\n'}${dockerfile}\n`
}

/** The context of all cases. */
function makeFixture(directory: string): void {
  const files = ['a', 'b', 'exec', 'dir/one', 'dir/two', 'dir/sub/three', 'dir/.hidden', 'hard1', 'with space', 'ü']
  for (const path of [...files, 'glob/a1.txt', 'glob/a2.txt', 'glob/b1.txt', 'glob/[x].txt', 'glob/q1']) {
    mkdirSync(dirname(join(directory, path)), { recursive: true })
    writeFileSync(join(directory, path), `${path}\n`, { mode: 0o644 })
  }
  mkdirSync(join(directory, 'empty'))
  symlinkSync('one', join(directory, 'dir/link'))
  symlinkSync('/nowhere', join(directory, 'dir/dangling'))
  symlinkSync('a', join(directory, 'link-to-file'))
  symlinkSync('dir', join(directory, 'link-to-dir'))
  writeFileSync(join(directory, 'no-archive.tar.gz'), 'text\n')
  const inside = join(directory, 'inside')
  mkdirSync(join(inside, 'in'), { recursive: true })
  writeFileSync(join(inside, 'in/file'), 'in\n')
  symlinkSync('file', join(inside, 'in/link'))
  chmodSync(join(inside, 'in'), 0o711)
  chownSync(join(inside, 'in/file'), 21, 22)
  execFileSync('find', [inside, '-exec', 'touch', '-h', '-d', '@1000000001', '{}', '+'])
  for (const [name, flag] of [
    ['archive.tar', '-cf'],
    ['archive.tar.gz', '-czf'],
  ] as const)
    execFileSync('tar', ['-C', inside, '--numeric-owner', flag, join(directory, name), 'in'])
  execFileSync('tar', ['-C', join(inside, 'in'), '--numeric-owner', '-cf', join(directory, 'top.tar'), '.'])
  execFileSync('rm', ['-r', inside])
  linkSync(join(directory, 'hard1'), join(directory, 'hard2'))
  dressFixture(directory)
}

/** Modes, owners and times. */
function dressFixture(directory: string): void {
  chmodSync(join(directory, 'b'), 0o600)
  chownSync(join(directory, 'b'), 1234, 1234)
  chmodSync(join(directory, 'exec'), 0o755)
  chmodSync(join(directory, 'dir'), 0o750)
  chownSync(join(directory, 'dir'), 7, 8)
  chmodSync(join(directory, 'dir/two'), 0o4755)
  chmodSync(join(directory, 'dir/sub'), 0o1777)
  chmodSync(join(directory, 'empty'), 0o700)
  execFileSync('find', [directory, '-exec', 'touch', '-h', '-d', '@1000000000', '{}', '+'])
}

/** Lines for what is not the same. Times count where both are of long ago: the others are those of the build. */
function differences(ours: Record<string, string>, theirs: Record<string, string>): string[] {
  const isOld = (line = '') => Number(/@(\d+)/.exec(line)?.[1]) <= 1_000_000_001
  const lines: string[] = []
  for (const path of new Set([...Object.keys(ours), ...Object.keys(theirs)])) {
    let [own, other] = [ours[path], theirs[path]]
    if (path === '/' || path.startsWith('/dev/')) continue
    if (!isOld(own) && !isOld(other)) [own, other] = [own?.replace(/@\d+ /, ''), other?.replace(/@\d+ /, '')]
    if (own !== other) lines.push(`${path}: ${own ?? 'nothing'}, by Docker: ${other ?? 'nothing'}`)
  }
  return lines
}

function refusalOf(outcome: Outcome): string | undefined {
  return 'refused' in outcome ? outcome.refused : undefined
}

/** Of the configuration what means something: Docker writes empty fields too. */
function shown(config: object): object {
  const fields = Object.entries(config).filter(([key, value]) => {
    const isEmpty = value === null || value === '' || value === false
    return !isEmpty && !['Hostname', 'Domainname', 'Image', 'ArgsEscaped'].includes(key)
  })
  return Object.fromEntries(fields)
}
