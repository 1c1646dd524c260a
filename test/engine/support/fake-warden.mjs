#!/usr/bin/env node
// Stands in for the native program where a test needs it to misbehave. It speaks native/PROTOCOL.md on descriptor 3 and does
// what the verb says; MAYFLY_FAKE chooses how it starts and ends.
import { mkdirSync, rmSync, writeSync } from 'node:fs'
import { createServer, Socket } from 'node:net'

const settings = Object.fromEntries(process.argv.slice(3).map((word) => word.split(/=(.*)/s, 2)))
const session = `${settings.home}/sessions/${settings.id}`
const control = new Socket({ fd: 3 })
const say = (object) => control.write(`${JSON.stringify(object)}\n`)

const verbs = {
  ping: (seq) => say({ seq, ok: true }),
  echo: (seq, pairs) => say({ seq, ok: true, pairs }),
  refuse: (seq) => say({ seq, ok: false, step: 'id', subject: '', errno: 'ENOENT', message: '' }),
  silent: () => {},
  killed: () => {
    // What the launcher says when this happens to its warden.
    writeSync(2, 'mayfly-warden: the warden was killed by signal 9\n')
    process.kill(process.pid, 'SIGKILL')
  },
  crash: () => {
    process.stderr.write('assertion failed: something\n')
    process.stderr.end(() => process.exit(3))
  },
  garbage: () => control.write('this is no JSON\n'),
  hangup: () => control.destroy(),
  'split-exit': (seq) => {
    // Reply and event arrive in one write, the event cut in the middle of a character.
    const bytes = Buffer.from(
      `${JSON.stringify({ seq, ok: true })}\n${JSON.stringify({ event: 'warning', message: 'grün' })}\n`,
    )
    control.write(bytes.subarray(0, bytes.length - 6))
    setTimeout(() => control.write(bytes.subarray(bytes.length - 6)), 20)
  },
}

function start() {
  if (process.env.MAYFLY_FAKE === 'fail') {
    say({
      event: 'failed',
      step: 'namespace',
      subject: 'user',
      errno: 'EPERM',
      message: 'user namespaces are not allowed',
    })
    return
  }
  if (process.env.MAYFLY_FAKE === 'mute') process.exit(7)
  mkdirSync(session, { recursive: true })
  createServer((socket) => {
    socket.once('data', (data) => {
      const verb = data.toString().split('\0')[1]
      if (verb === 'logs') socket.write('{"ok":true}\n')
      if (verb === 'cut') socket.destroy()
    })
  }).listen(`${session}/s`, () => {
    say({
      event: 'ready',
      pid: process.pid,
      launcher: process.pid,
      version: '0',
      session,
      rootless: false,
      ids: 'root',
      cgroups: { mode: 'none' },
      warnings: [],
    })
  })
}

let pending = Buffer.alloc(0)
control.on('data', (chunk) => {
  pending = Buffer.concat([pending, chunk])
  for (;;) {
    const nul = pending.indexOf(0)
    if (nul < 0) return
    const end = nul + 1 + Number(pending.subarray(0, nul))
    if (pending.length < end) return
    const [verb, seq, ...pairs] = pending
      .subarray(nul + 1, end - 1)
      .toString()
      .split('\0')
    pending = pending.subarray(end)
    verbs[verb]?.(Number(seq), pairs)
  }
})
control.on('end', () => {
  if (process.env.MAYFLY_FAKE === 'stubborn') return
  rmSync(session, { recursive: true, force: true })
  process.exit(0)
})
if (process.env.MAYFLY_FAKE === 'stubborn') setInterval(() => {}, 1000)
start()
