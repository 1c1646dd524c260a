import { appendFileSync } from 'node:fs'
import shared from './shared.js'

shared.test('shares it with another file', ({ web }) => appendFileSync(process.env.NOTES, `${web.getId()}\n`))
