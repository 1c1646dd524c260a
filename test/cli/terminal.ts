/** Commands on a terminal of their own (python3 makes it), as somebody sits in front of one. */
import { execFileSync, spawn } from 'node:child_process'
import { finished } from './command.js'

export type Step =
  | { readonly wait: string }
  | { readonly send: string }
  | { readonly size: readonly [rows: number, columns: number] }
  | { readonly signal: number }

export interface Seen {
  /** Everything that came to the terminal, sequences included. */
  readonly seen: string
  readonly status: number | null
  /** The terminal's mode is what it was before. */
  readonly restored: boolean
}

/** What keeps terminals from being made here, or undefined. */
export function missingTerminals(): string | undefined {
  try {
    execFileSync('python3', ['-c', 'import pty, termios, fcntl'], { stdio: 'ignore' })
    return undefined
  } catch {
    return 'python3 makes them here and is missing'
  }
}

/** Runs a command on a terminal of 30 rows and 90 columns to its end. */
export async function onTerminal(
  words: readonly string[],
  steps: readonly Step[],
  env: NodeJS.ProcessEnv = {},
  cwd?: string,
): Promise<Seen> {
  const child = spawn('python3', ['-c', TERMINAL, JSON.stringify(words), JSON.stringify(steps)], {
    env: { ...process.env, TERM: 'xterm', ...env },
    ...(cwd ? { cwd } : {}),
  })
  const { stdout, stderr } = await finished(child)
  if (!stdout) throw new Error(stderr)
  return JSON.parse(stdout)
}

/**
 * Steps: {"wait": text}, {"send": text}, {"size": [rows, columns]}, {"signal": number}.
 * Prints JSON: what was seen, the exit status, and whether the terminal is afterwards as it was.
 */
const TERMINAL = `
import fcntl, json, os, pty, select, signal, struct, sys, termios, time
words, steps = json.loads(sys.argv[1]), json.loads(sys.argv[2])
resize = lambda fd, size: fcntl.ioctl(fd, termios.TIOCSWINSZ, struct.pack('HHHH', size[0], size[1], 0, 0))
master, slave = pty.openpty()
resize(slave, (30, 90))
before = termios.tcgetattr(slave)
pid = os.fork()
if pid == 0:
    os.close(master)
    os.setsid()
    fcntl.ioctl(slave, termios.TIOCSCTTY, 0)
    for fd in (0, 1, 2): os.dup2(slave, fd)
    os.execvp(words[0], words)
seen, mark, status, deadline = '', 0, None, time.time() + 25
def read(timeout):
    global seen
    if select.select([master], [], [], timeout)[0]:
        try: seen += os.read(master, 65536).decode('utf8', 'replace')
        except OSError: pass
for step in steps:
    if 'wait' in step:
        while step['wait'] not in seen[mark:] and time.time() < deadline: read(0.05)
        found = seen.find(step['wait'], mark)
        if found < 0: break
        mark = found + len(step['wait'])
    if 'send' in step: os.write(master, step['send'].encode())
    if 'size' in step: resize(slave, step['size'])
    if 'signal' in step: os.kill(pid, step['signal'])
while status is None and time.time() < deadline:
    read(0.05)
    done, raw = os.waitpid(pid, os.WNOHANG)
    if done: status = os.waitstatus_to_exitcode(raw)
if status is None: os.kill(pid, signal.SIGKILL)
for _ in range(5): read(0.02)
print(json.dumps({'seen': seen, 'status': status, 'restored': termios.tcgetattr(slave) == before}))
`
