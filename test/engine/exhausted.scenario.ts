/** A process that may open few files, opens them all, and asks for an engine: tells the error by its code, and whether one opens when they are closed. */

import { closeSync, openSync } from 'node:fs'
import { Engine } from '../../src/index.ts'

const attempt = () =>
  Engine.open({ home: process.argv[2]!, network: false }).then(
    (engine) => engine.close().then(() => 'open'),
    (error) => ({ code: error.code, message: error.message }),
  )

console.log(JSON.stringify(await attempt())) // what is loaded when it is needed is loaded now
const files: number[] = []
try {
  for (;;) files.push(openSync('/dev/null', 'r'))
} catch {} // EMFILE
const full = await attempt()
closeSync(files.pop()!) // for some of the pipes
const nearlyFull = await attempt()
for (const file of files) closeSync(file)
console.log(JSON.stringify({ full, nearlyFull }))
console.log(JSON.stringify(await attempt()))
