const { appendFileSync } = require('node:fs')
const shared = require('./shared.js')

test('shares it with another file', () => appendFileSync(process.env.NOTES, `${shared.inject().web.getId()}\n`))
