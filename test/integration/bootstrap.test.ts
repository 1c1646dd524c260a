import { execFileSync } from 'node:child_process'
import { chmodSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { Engine } from '../../src/engine/engine.js'
import { makeWorld, obstacle, type World } from '../engine/support/world.js'
import { BASE_IMAGE_TIMEOUT_MS, DEBIAN, loadDebian, missingBootstrap } from '../support/base-images.js'

const reason = obstacle()

describe.skipIf(reason !== '')(`bootstrap${reason && ` (${reason})`}`, () => {
  let world: World
  let engine: Engine

  beforeAll(async () => {
    world = makeWorld()
    engine = await Engine.open({ home: world.home, network: false })
  })

  afterAll(async () => {
    await engine?.close()
    world?.remove()
  })

  /** A program of this name that goes before the real one. */
  async function withTool<T>(script: string, work: () => Promise<T>): Promise<T> {
    const directory = join(world.directory, 'tools')
    mkdirSync(directory, { recursive: true })
    writeFileSync(join(directory, 'mmdebstrap'), `#!/bin/sh\n${script}\n`)
    chmodSync(join(directory, 'mmdebstrap'), 0o755)
    const path = process.env.PATH
    process.env.PATH = `${directory}:${path}`
    try {
      return await work()
    } finally {
      process.env.PATH = path
    }
  }

  describe.skipIf(missingBootstrap() !== undefined)(`of Debian (${missingBootstrap()})`, () => {
    beforeAll(() => loadDebian(engine), BASE_IMAGE_TIMEOUT_MS)

    const sh = async (script: string) => {
      const { stdout, stderr, exitCode } = await engine.run({
        image: DEBIAN,
        command: ['sh', '-c', script],
        pull: 'never',
      })
      expect(stderr).toBe('')
      expect(exitCode).toBe(0)
      return stdout
    }

    it('makes an image that has the name, the command and the environment of the official one', async () => {
      const { Config, RepoTags, Os } = await engine.images.inspect(DEBIAN)
      expect(RepoTags).toEqual([DEBIAN])
      expect(Os).toBe('linux')
      expect(Config).toEqual({
        Cmd: ['bash'],
        Env: ['PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin'],
      })
    })

    it('leaves out what the slim one leaves out, and keeps the licences', async () => {
      expect(await sh('. /etc/os-release; echo $VERSION_CODENAME')).toBe('bookworm\n')
      expect(await sh('find /usr/share/man /usr/share/locale -type f 2>/dev/null | grep -v locale.alias | wc -l')).toBe(
        '0\n',
      )
      expect(await sh('find /usr/share/doc -type f | grep -v /copyright$ | wc -l; ls /usr/share/doc/apt')).toBe(
        '0\ncopyright\n',
      )
      expect(await sh('ls /var/lib/apt/lists | grep -vxE "lock|partial" | wc -l; ls /var/cache/apt/archives')).toMatch(
        /^0\n(lock\n|partial\n)*$/,
      )
      expect(await sh('command -v perl >/dev/null && perl -e "print 1"; test ! -e /usr/share/perl && echo small')).toBe(
        '1small\n',
      )
    })

    it('has apt set up as the official one, recommended packages included', async () => {
      expect(await sh('ls /etc/apt/apt.conf.d')).toContain(
        'docker-autoremove-suggests\ndocker-clean\ndocker-gzip-indexes\ndocker-no-languages\n',
      )
      expect(await sh('apt-config dump APT::Install-Recommends')).toBe('APT::Install-Recommends "1";\n')
      expect(await sh('cat /etc/dpkg/dpkg.cfg.d/*')).toContain('path-exclude /usr/share/man/*\n')
      expect(await sh('cat /etc/apt/sources.list.d/debian.sources')).toMatch(
        /^URIs: http.*\nSuites: bookworm bookworm-updates\n[\s\S]*Suites: bookworm-security\n/m,
      )
      expect(await sh('/usr/sbin/policy-rc.d; echo $?')).toBe('101\n')
      expect(await sh('dpkg --audit; dpkg --get-selections | wc -l')).toMatch(/^(7|8|9)\d\n$/)
    })
  })

  it('says what to install where there is no program for it', async () => {
    const path = process.env.PATH
    process.env.PATH = join(world.directory, 'nowhere')
    try {
      await expect(engine.images.bootstrap(DEBIAN, { tool: 'mmdebstrap' })).rejects.toMatchObject({
        code: 'BOOTSTRAP_FAILED',
        hint: expect.stringContaining('apt-get install mmdebstrap'),
      })
    } finally {
      process.env.PATH = path
    }
  })

  it('refuses what is no release, and mirrors that are none', async () => {
    await expect(engine.images.bootstrap('alpine:3')).rejects.toMatchObject({
      code: 'INVALID_OPTION',
      field: 'reference',
    })
    await expect(engine.images.bootstrap(DEBIAN, { mirror: 'file:///x y' })).rejects.toMatchObject({
      code: 'INVALID_OPTION',
      field: 'mirror',
    })
  })

  it('passes on what the program says, and shows its last lines when it fails', async () => {
    const said: string[] = []
    const onProgress = (event: { type: string; text?: string }) => said.push(event.text ?? event.type)
    const failing = 'echo "I: installing" >&2; head -c 100000 /dev/zero; echo "E: no such mirror" >&2; exit 3'
    await withTool(failing, () =>
      expect(engine.images.bootstrap('debian:13', { onProgress, tool: 'mmdebstrap' })).rejects.toMatchObject({
        code: 'BOOTSTRAP_FAILED',
        exitCode: 3,
        logTail: 'I: installing\nE: no such mirror',
      }),
    )
    expect(said).toContain('I: installing')
    await expect(engine.images.get('debian:13')).rejects.toMatchObject({ code: 'IMAGE_NOT_FOUND' })
    expect(readdirSync(join(engine.info.session, 'store'))).toEqual([])
  })

  it('ends the program and all its children when it is aborted', async () => {
    const pids = join(world.directory, 'pids')
    const controller = new AbortController()
    const slow = `echo $$ > ${pids}; sleep 600 & echo $! >> ${pids}; echo "I: waiting" >&2; wait`
    const onProgress = (event: { text?: string }) => {
      if (event.text === 'I: waiting') controller.abort(new Error('enough'))
    }
    await withTool(slow, () =>
      expect(
        engine.images.bootstrap('debian:13', {
          onProgress: onProgress as never,
          signal: controller.signal,
          tool: 'mmdebstrap',
        }),
      ).rejects.toThrow('enough'),
    )
    for (const pid of readFileSync(pids, 'utf8').trim().split('\n')) {
      await expect.poll(() => isAlive(Number(pid)), { timeout: 10_000 }).toBe(false)
    }
  })

  it('takes what another program packs, device nodes and owners included', async () => {
    const root = join(world.directory, 'packed.tar')
    execFileSync('tar', ['--create', `--file=${root}`, `--directory=${world.rootfs}`, '--owner=7', '--group=8', '.'])
    const image = await withTool(`cat ${root}`, () => engine.images.bootstrap('debian:13', { tool: 'mmdebstrap' }))
    expect(image.references).toEqual(['docker.io/library/debian:13'])
    const { stdout } = await engine.run({ image: 'debian:13', command: ['/bin/stat', '-c', '%u:%g', '/etc/passwd'] })
    expect(stdout).toBe('7:8\n')
  })
})

function isAlive(pid: number): boolean {
  try {
    // A zombie that nobody has waited for is dead enough.
    return process.kill(pid, 0) && !/^State:\s+Z/m.test(readFileSync(`/proc/${pid}/status`, 'utf8'))
  } catch {
    return false
  }
}
