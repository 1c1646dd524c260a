/** `mayfly login` and `mayfly logout`: credentials where docker and podman find them too. */
import type { Command } from 'commander'
import { DOCKER_HUB } from '../engine/image/reference.js'
import { forgetCredentials, keepCredentials } from './docker-config.js'
import { printableLine } from './progress/printable.js'
import { askLine, readInput } from './prompt.js'
import { UsageError } from './usage-error.js'
import { interruptible } from './with-engine.js'

interface LoginFlags {
  readonly password?: string
  readonly passwordStdin?: boolean
  readonly username?: string
}

const ARGUMENT = ['[registry]', 'such as localhost:5000 or ghcr.io; else Docker Hub'] as const

export function declareLogin(program: Command): void {
  program
    .command('login')
    .description('Keep credentials for a registry in docker’s configuration, once the registry has accepted them')
    .argument(...ARGUMENT)
    .option('-u, --username <name>')
    .option('-p, --password <password>', 'others may see it: --password-stdin is safer')
    .option('--password-stdin', 'read the password from stdin')
    .action(async (server: string | undefined, flags: LoginFlags) => {
      await interruptible((signal) => login(registryOf(server), flags, signal))
    })
}

async function login(registry: string, flags: LoginFlags, signal: AbortSignal): Promise<void> {
  if (flags.password !== undefined && flags.passwordStdin) {
    throw new UsageError('--password and --password-stdin exclude each other')
  }
  if (flags.passwordStdin && !flags.username) throw new UsageError('--password-stdin needs --username')
  const username = flags.username || (await ask('Username: ', signal))
  const password = flags.passwordStdin
    ? (await readInput(signal)).replace(/\r?\n$/, '')
    : (flags.password ?? (await ask('Password: ', signal, { hidden: true })))
  if (!username || !password) throw new UsageError('Username and password must not be empty')
  const { checkLogin } = await import('../engine/registry/login.js')
  await checkLogin(registry, { username, password }, signal)
  const place = await keepCredentials(registry, username, password)
  process.stderr.write(`Logged in to ${registry} as ${printableLine(username)}; kept in ${place}\n`)
}

export function declareLogout(program: Command): void {
  program
    .command('logout')
    .description('Remove the credentials for a registry from docker’s configuration')
    .argument(...ARGUMENT)
    .action(async (server: string | undefined) => {
      const registry = registryOf(server)
      const isGone = await forgetCredentials(registry)
      process.stderr.write(isGone ? `Logged out of ${registry}\n` : `Not logged in to ${registry}\n`)
    })
}

/** `https://host/v2/` is the registry `host`. */
function registryOf(server: string = DOCKER_HUB): string {
  const host = server.replace(/^https?:\/\//, '').replace(/\/(v[12]\/?)?$/, '')
  if (!/^[a-z0-9.-]+(:\d+)?$|^\[[0-9a-f:]+\](:\d+)?$/i.test(host)) throw new UsageError(`"${server}" is no registry`)
  return host === 'index.docker.io' || host === 'registry-1.docker.io' ? DOCKER_HUB : host
}

async function ask(question: string, signal: AbortSignal, options?: { readonly hidden: boolean }): Promise<string> {
  if (!process.stdin.isTTY) {
    throw new UsageError('There is no terminal to ask at', 'use --username and --password-stdin')
  }
  return askLine(question, signal, options)
}
