// biome-ignore-all lint/suspicious/noTemplateCurlyInString: variables of Dockerfiles look the same
import { expect, test } from 'vitest'
import {
  expandFrom,
  expandInstruction,
  expansionContext,
} from '../../../../src/engine/build/dockerfile/expand-instruction.js'
import { parseDockerfile } from '../../../../src/engine/build/dockerfile/parse.js'
import type { Instruction } from '../../../../src/engine/build/dockerfile/types.js'

const VARIABLES = new Map([
  ['A', 'one'],
  ['B', 'two three'],
  ['P', '8080'],
  ['M', '0700'],
  ['EMPTY', ''],
  ['PORTS', '1 2'],
])

function expanded(text: string, directive = ''): Instruction {
  const file = parseDockerfile(`${directive}FROM x\n${text}`)
  return expandInstruction(file.stages[0]!.instructions[0]!, VARIABLES, expansionContext(file))
}

test.each<[string, object]>([
  [
    'COPY --from=$A --chown=$A:2 --chmod=$M --exclude=$A* $A "$B" /$A/',
    {
      from: 'one',
      chown: 'one:2',
      chmod: '0700',
      exclude: ['one*'],
      sources: ['one', 'two three'],
      destination: '/one/',
    },
  ],
  ['COPY ["$B", "/x y"]', { sources: ['two three'], destination: '/x y' }],
  [
    'COPY <<X <<"Y" <<-Z /\n$A "q" \\$A\nX\n$A\nY\n\t${A}\nZ',
    { files: [{ content: 'one "q" $A\n' }, { content: '$A\n' }, { content: 'one\n' }] },
  ],
  [
    `ADD --checksum=\${C:-sha256:${'0'.repeat(64)}} https://\${A}.test/ /`,
    { checksum: `sha256:${'0'.repeat(64)}`, sources: ['https://one.test/'] },
  ],
  [
    'ENV A=new B=$A $A=x',
    {
      pairs: [
        { key: 'A', value: 'new' },
        { key: 'B', value: 'one' },
        { key: 'one', value: 'x' },
      ],
    },
  ],
  [
    'ENV a=\'$A\' b="$A" c=\\$A d=a\\ b',
    { pairs: [{ value: '$A' }, { value: 'one' }, { value: '$A' }, { value: 'a b' }] },
  ],
  ['ENV a $B  "x"', { pairs: [{ key: 'a', value: 'two three  x' }] }],
  [
    'ARG x y=$A z=',
    {
      args: [
        { key: 'x', value: undefined },
        { key: 'y', value: 'one' },
        { key: 'z', value: '' },
      ],
    },
  ],
  ['LABEL "a $A"="$B"', { pairs: [{ key: 'a one', value: 'two three' }] }],
  ['EXPOSE $P/udp $PORTS $EMPTY', { ports: ['8080/udp', '1', '2'] }],
  ['VOLUME /$A ["/x"]', { paths: ['/one', '[/x]'] }],
  ['USER ${A}', { user: 'one' }],
  ['WORKDIR /a/$B', { path: '/a/two three' }],
  ['STOPSIGNAL SIG${S:-INT}', { signal: 'SIGINT' }],
  [
    'RUN --mount=type=cache,target=/$A,id=$B,mode=$M --mount=from=x,target=/y echo $A',
    {
      command: { text: 'echo $A' },
      mounts: [
        { type: 'cache', target: '/one', id: 'two three', mode: 0o700 },
        { type: 'bind', from: 'x' },
      ],
    },
  ],
  ['RUN --mount=type=${T:-tmpfs},target=/x y', { mounts: [{ type: 'tmpfs' }] }],
  ['RUN <<X\n$A\nX', { heredocs: [{ content: '$A\n' }] }],
  ['CMD $A', { command: { text: '$A' } }],
  ['ENTRYPOINT ["$A"]', { command: { args: ['$A'] } }],
  ['HEALTHCHECK CMD $A', { command: { text: '$A' } }],
  ['SHELL ["$A"]', { shell: ['$A'] }],
  ['ONBUILD ENV a=$A', { trigger: 'ENV a=$A', instruction: { pairs: [{ value: '$A' }] } }],
])('%j', (text, fields) => {
  expect(expanded(text)).toMatchObject(fields)
})

test('the given instruction stays as it was, and the new one is frozen', () => {
  const file = parseDockerfile('FROM x\nENV a=$A')
  const given = file.stages[0]!.instructions[0]!
  const result = expandInstruction(given, VARIABLES)
  expect(given).toMatchObject({ pairs: [{ value: '$A' }] })
  expect([Object.isFrozen(result), result.location, result.source]).toEqual([true, given.location, 'ENV a=$A'])
})

test('the escape character is that of the file, but in heredocs', () => {
  expect(expanded('ENV a=`$A\\b', '# escape=`\n')).toMatchObject({ pairs: [{ value: '$A\\b' }] })
  expect(expanded('COPY <<X /\n`$A \\$A\nX', '# escape=`\n')).toMatchObject({ files: [{ content: '`one $A\n' }] })
})

test.each<[string, RegExp]>([
  ['ENV a=${A', /Dockerfile:2: cannot read "\$\{A": missing "}"/],
  ['ENV a="${NONE:?give it}"', /Dockerfile:2: NONE: give it/],
  ['LABEL $NONE=x', /the name "\$NONE" is empty/],
  ['EXPOSE $A', /invalid port "one"/],
  ['STOPSIGNAL $A', /invalid signal "one"/],
  ['COPY --chmod=$A a b', /invalid mode "one"/],
  ['COPY --chown=$A:$A:$A a b', /invalid owner/],
  ['COPY $NONE /', /a source of COPY is empty/],
  ['ADD --checksum=$A https://x.test/ /', /invalid checksum "one"/],
  ['ADD --checksum=$A $B /', /only for URLs/],
  ['VOLUME /a $NONE', /path of VOLUME is empty/],
  ['RUN --mount=type=$A,target=/x y', /unsupported mount type "one"/],
  ['RUN --mount=type=cache,target=/x,mode=$A y', /invalid mode "one"/],
])('%s is refused with its line shown', (text, message) => {
  expect(() => expanded(text)).toThrow(message)
  expect(() => expanded(text)).toThrow(`2 | >>> ${text}`)
  expect(() => expanded(text)).toThrow(expect.objectContaining({ code: 'DOCKERFILE_INVALID', line: 2 }))
})

test('FROM', () => {
  const [first, second, third] = parseDockerfile(
    'FROM --platform=$P x:${A}\nFROM --platform=$EMPTY y\nFROM $NONE',
  ).stages
  expect(expandFrom(first!, VARIABLES)).toEqual({ from: 'x:one', platform: '8080' })
  expect(expandFrom(second!, VARIABLES)).toEqual({ from: 'y', platform: undefined })
  expect(() => expandFrom(third!, VARIABLES)).toThrow(/"\$NONE" is empty.*[\s\S]*--build-arg/)
})

test('tells which variables were looked up', () => {
  const seen = new Set<string>()
  const file = parseDockerfile('FROM x\nCOPY --from=$F $A ${B:-$C} <<X /\n$D\nX')
  expandInstruction(file.stages[0]!.instructions[0]!, VARIABLES, { onVariable: (name) => seen.add(name) })
  expect([...seen].sort()).toEqual(['A', 'B', 'C', 'D', 'F'])
})
