/** A {@link Bench} whose store has an image: `busy:1`, with busybox in it. */
import { execFileSync } from 'node:child_process'
import { join } from 'node:path'
import { Bench } from './command.js'

export async function imageBench(): Promise<Bench> {
  const bench = new Bench()
  const tar = join(bench.directory, 'root.tar')
  execFileSync('tar', ['-C', bench.rootfs, '--numeric-owner', '-cf', tar, '.'])
  const { code, stderr } = await bench.call(['import', '-c', 'ENV PATH=/bin', '-c', 'CMD ["sh"]', tar, 'busy:1'])
  if (code !== 0) throw new Error(stderr)
  return bench
}
