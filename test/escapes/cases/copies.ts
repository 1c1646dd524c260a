/** Copying out of and into containers that change under the copy, or that bring programs of their own. */

import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { temporaryDirectory } from '../../support/temporary.ts'
import { type Case, type EscapeWorld, persist } from '../world.ts'

/** A directory and a link to the outside, at /data and /link, change places as fast as they can. */
const swapping = (world: EscapeWorld, more = {}) =>
  world.start(
    `mkdir -p /data ${world.outside}; echo -n inside > /data/secret; echo -n inside > ${world.outside}/secret
     ln -s ${world.outside} /link; exec swap /data /link`,
    'swapping',
    more,
  )

/** A tar of one file. */
function tarOf(name: string, content: string, ...flags: string[]): Buffer {
  const directory = temporaryDirectory()
  try {
    writeFileSync(join(directory, name), content)
    return execFileSync('tar', ['-C', directory, ...flags, '-cf', '-', name])
  } finally {
    rmSync(directory, { recursive: true })
  }
}

async function textOf(pieces: AsyncIterable<Uint8Array>): Promise<string> {
  const all: Uint8Array[] = []
  for await (const piece of pieces) all.push(piece)
  return Buffer.concat(all).toString('latin1')
}

export const copies: readonly Case[] = [
  {
    name: 'copying out never reads the host while a directory turns into a link to it and back (CVE-2018-15664)',
    run: async (world) => {
      await using container = await swapping(world)
      const copied = await persist(700, async (round) => {
        const text = await textOf(container.copyOut(round % 2 ? '/data/secret' : '/data'))
        assert.doesNotMatch(text, /classified/)
      })
      assert.ok(copied > 0)
      assert.equal(container.state, 'running')
    },
  },
  {
    name: 'copying in never writes to the host while a directory turns into a link to it and back (CVE-2018-15664)',
    run: async (world) => {
      await using container = await swapping(world)
      const evil = tarOf('canary', 'evil')
      assert.ok((await persist(700, (round) => container.copyIn(round % 2 ? '/data' : '/link', [evil]))) > 0)
      assert.equal(container.state, 'running')
    },
  },
  {
    name: 'copying into a volume never writes to the host while the directory that it is mounted in changes (CVE-2026-42306)',
    run: async (world) => {
      const mounts = [{ type: 'volume' as const, source: 'copied', target: '/data/volume' }]
      await using container = await swapping(world, { mounts })
      const evil = tarOf('canary', 'evil')
      const done = await persist(700, async (round) => {
        if (round % 2) await container.copyIn('/data/volume', [evil])
        else assert.doesNotMatch(await textOf(container.copyOut('/data/volume')), /classified/)
      })
      assert.ok(done > 0)
      assert.equal(container.state, 'running')
    },
  },
  {
    name: 'an export never has the host in it while a directory turns into a link to it and back (CVE-2023-0778)',
    run: async (world) => {
      await using container = await swapping(world)
      for (let round = 0; round < 3; round++) assert.doesNotMatch(await textOf(container.export()), /classified/)
      assert.equal(container.state, 'running')
    },
  },
  {
    name: 'copying runs no program and loads no library of the container (CVE-2019-14271, CVE-2026-41567)',
    run: async (world) => {
      const programs = 'tar xz unxz xzcat unpigz pigz gzip gunzip zstd bzip2 bunzip2 docker-untar'
      const trojan = world.variant(`mkdir -p usr/bin sbin usr/lib lib lib64
        for name in ${programs}; do
          for where in bin usr/bin sbin; do
            rm -f $where/$name; printf '#!/bin/sh\\necho ran >> /ran; exec cat' > $where/$name; chmod 755 $where/$name
          done
        done
        for library in libnss_files.so.2 libnss_compat.so.2 libc.so.6; do cp bin/sharp lib/$library; done`)
      await using container = await world.start('echo up; exec sleep 100', 'up', trojan)
      for (const flag of ['-z', '-J', '--bzip2'])
        await container.copyIn('/tmp', [tarOf('file', 'copied', flag)]).catch(() => {})
      await container.copyIn('/tmp', [tarOf('file', 'copied')])
      await textOf(container.copyOut('/tmp/file'))
      await textOf(container.export())
      assert.equal((await container.exec(['sh', '-c', 'cat /tmp/file; ls /ran'])).stdout, 'copied')
    },
  },
]
