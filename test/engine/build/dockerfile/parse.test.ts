// biome-ignore-all lint/suspicious/noTemplateCurlyInString: variables of Dockerfiles look the same
import { DockerfileParser } from 'dockerfile-ast'
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { parseDockerfile, parseInstructions } from '../../../../src/engine/build/dockerfile/parse.js'
import { runScript } from '../../../../src/engine/build/dockerfile/run-script.js'
import type { Instruction, RunInstruction } from '../../../../src/engine/build/dockerfile/types.js'
import { MayflyError } from '../../../../src/engine/errors.js'

/** The instructions of the only stage. */
function parse(text: string): readonly Instruction[] {
  return parseDockerfile(`FROM scratch\n${text}`).stages[0]!.instructions
}

/** An instruction's own fields. */
function details(text: string): object {
  const { location: _location, source: _source, ...rest } = parse(text)[0]!
  return rest
}

describe('directives', () => {
  test.each([
    ['# escape=`\nFROM a', '`'],
    ['#escape=`\nFROM a', '`'],
    ['  # EsCaPe = `  \nFROM a', '`'],
    ['# syntax=docker/dockerfile:1\n# escape=`\nFROM a', '`'],
    ['# check=skip=all\r\n# escape=`\r\nFROM a', '`'],
    ['\ufeff# escape=`\nFROM a', '`'],
    ['# a comment\n# escape=`\nFROM a', '\\'],
    ['\n# escape=`\nFROM a', '\\'],
    ['# unknown=x\n# escape=`\nFROM a', '\\'],
    ['FROM a\n# escape=`', '\\'],
    ['#!/usr/bin/env x\n# escape=`\nFROM a', '\\'],
  ])('%j has the escape character %s', (text, escapeCharacter) => {
    expect(parseDockerfile(text).directives.escape).toBe(escapeCharacter)
  })

  test.each([
    '# syntax=docker/dockerfile',
    '#syntax=docker/dockerfile:1.7-labs',
    '# syntax = docker.io/docker/dockerfile:1@sha256:9ba7531bd80fb0a858632727cf7a112fbfd19b17e94c4e84ced81e24ef1a0dbc',
    '# syntax=docker/dockerfile-upstream:master',
    '# syntax=mirror.test:5000/hub/docker/dockerfile:1',
    '# syntax=docker/dockerfile:1 --some option',
  ])('%s is accepted', (line) => {
    expect(parseDockerfile(`${line}\nFROM a`).directives.syntax).toBe(line.replace(/.*?=\s*/, ''))
  })

  test.each([
    ['# syntax=tonistiigi/buildpacks\nFROM a', 1],
    ['# escape=`\n#syntax=x.test/dockerfile:1\nFROM a', 2],
    ['#!/usr/bin/x\n# syntax=other\nFROM a', 2],
    ['// syntax=other\nwhatever', 1],
    ['{"syntax": "other",\n "x": 1}', 1],
  ])('another frontend is refused: %j', (text, line) => {
    expect(errorOf(text)).toMatchObject({ code: 'NOT_SUPPORTED', field: 'syntax', file: 'Dockerfile', line })
  })

  test('the check directive is kept', () => {
    expect(parseDockerfile('# check=skip=JSONArgsRecommended;error=true\nFROM a').directives.check).toBe(
      'skip=JSONArgsRecommended;error=true',
    )
  })
})

describe('lines', () => {
  test.each<[string, string]>([
    ['RUN a \\\n  b', 'a   b'],
    ['RUN a \\  \t\n  b', 'a   b'],
    ['RUN a \\\r\n  b\r\n', 'a   b'],
    ['RUN a \\\n# comment\n  # another \\\n  b', 'a   b'],
    ['RUN a \\\n\n   \n  b', 'a   b'],
    ['RUN \\\n\\\n a', 'a'],
    ['RUN a \\\\\n', 'a \\\\'],
    ['RUN a \\', 'a'],
    ['  run   a  ', 'a'],
    ['R\\\nUN a', 'a'],
    ['RUN a # no comment', 'a # no comment'],
    ['\tRUN\ta\tb', 'a\tb'],
    ['RUN a \\\n# escape=`\n b', 'a  b'],
    ['\\\nRUN a', 'a'],
  ])('%j runs %j', (text, command) => {
    expect(parse(text)[0]).toMatchObject({ kind: 'RUN', command: { form: 'shell', text: command } })
    expect(parse(text)).toHaveLength(1)
  })

  test('a backtick joins lines when it is the escape character', () => {
    const file = parseDockerfile('# escape=`\nFROM a\nRUN dir `\n C:\\\nRUN x')
    expect(file.stages[0]!.instructions.map((one) => one.source)).toEqual(['RUN dir `\n C:\\', 'RUN x'])
  })

  test('locations and sources are those of the file', () => {
    const [run, copy, env] = parse('\n# c\nRUN a \\\n  b\nCOPY <<X <<Y /d/\n1\nX\n2\nY\n  ENV a=b')
    expect([run, copy, env].map((one) => [one!.location, one!.source])).toEqual([
      [{ file: 'Dockerfile', line: 4, endLine: 5 }, 'RUN a \\\n  b'],
      [{ file: 'Dockerfile', line: 6, endLine: 10 }, 'COPY <<X <<Y /d/\n1\nX\n2\nY'],
      [{ file: 'Dockerfile', line: 11, endLine: 11 }, 'ENV a=b'],
    ])
  })

  test('an empty line inside an instruction is a warning', () => {
    expect(parseDockerfile('FROM a\nRUN x \\\n\n y', 'D').warnings).toEqual([
      { message: expect.stringContaining('Empty line'), location: { file: 'D', line: 3, endLine: 3 } },
    ])
  })
})

describe('heredocs', () => {
  test.each<[string, object[]]>([
    ['RUN <<EOF\na\nb\nEOF', [{ name: 'EOF', content: 'a\nb\n', expands: true, stripsTabs: false, fileDescriptor: 0 }]],
    ['RUN <<-EOF\n\t\ta\n\t b\n\tEOF', [{ content: 'a\n b\n', raw: '\t\ta\n\t b\n', stripsTabs: true }]],
    ['RUN <<"EOF"\n$a\nEOF', [{ name: 'EOF', content: '$a\n', expands: false }]],
    ["RUN <<'E O'\nx\nE O", [{ name: 'E O', expands: false }]],
    ['RUN <<E"O"F\nx\nEOF', [{ name: 'EOF', expands: false }]],
    ['RUN 3<<EOF cat\nx\nEOF', [{ name: 'EOF', fileDescriptor: 3 }]],
    [
      'RUN cat <<A <<B && x\n1\nA\n2\nB',
      [
        { name: 'A', content: '1\n' },
        { name: 'B', content: '2\n' },
      ],
    ],
    ['RUN <<EOF\nEOF', [{ content: '' }]],
    ['RUN <<EOF\n# kept\n\n a \\\nEOF', [{ content: '# kept\n\n a \\\n' }]],
    ['RUN cat \\\n <<EOF \\\n | x\nin\nEOF', [{ content: 'in\n' }]],
    ['RUN <<EOF\r\na\r\nEOF\r\n', [{ content: 'a\r\n' }]],
    ['RUN <<EOF\n<<X\nEOF', [{ content: '<<X\n' }]],
    ['RUN <<EOF\nEOF2\n EOF\nEOF', [{ content: 'EOF2\n EOF\n' }]],
    ['RUN <<$x\na\n$x', [{ name: '$x', content: 'a\n' }]],
    ['RUN --mount=type=cache,target=/c <<EOF\na\nEOF', [{ content: 'a\n' }]],
    // No heredocs:
    ['RUN echo $((1<<2))', []],
    ['RUN cat <<< word', []],
    ['RUN cat << EOF', []],
    ["RUN echo '<<EOF'", []],
    ['RUN echo \\<<EOF', []],
    ['RUN echo "a <<EOF b"', []],
    ["RUN echo don't <<EOF", []],
    ['RUN ["cat", "<<EOF"]', []],
  ])('%j', (text, heredocs) => {
    expect(parse(text)[0]).toMatchObject({ kind: 'RUN', heredocs })
    expect((parse(text)[0] as RunInstruction).heredocs).toHaveLength(heredocs.length)
  })

  test('other instructions have none', () => {
    expect(parse('CMD cat <<EOF\nENV a=<<EOF')).toMatchObject([{ command: { text: 'cat <<EOF' } }, { kind: 'ENV' }])
  })

  test('become the files of COPY and ADD', () => {
    expect(details('COPY a <<b <<-"c" d /e/\nB\nb\n\tC\n\tc')).toMatchObject({
      sources: ['a', 'd'],
      destination: '/e/',
      files: [
        { name: 'b', content: 'B\n', expands: true },
        { name: 'c', content: 'C\n', expands: false },
      ],
    })
  })

  test('belong to the instruction of ONBUILD', () => {
    const [onbuild] = parse('ONBUILD RUN <<-EOF\n\ta\n\tEOF')
    expect(onbuild).toMatchObject({
      trigger: 'RUN <<-EOF\n\ta\nEOF',
      instruction: { kind: 'RUN', heredocs: [{ content: 'a\n' }] },
    })
    const [again] = parseInstructions((onbuild as { trigger: string }).trigger, 'trigger')
    expect(again).toMatchObject({ heredocs: [{ content: 'a\n' }] })
  })

  test.each<[string, object]>([
    ['RUN <<EOF\necho a\nEOF', { form: 'shell', text: 'echo a\n' }],
    ['RUN <<-EOF\n\techo a\nEOF', { form: 'shell', text: 'echo a\n' }],
    [
      'RUN <<EOF\n#!/usr/bin/python3\nprint(1)\nEOF',
      { form: 'script', name: 'EOF', content: '#!/usr/bin/python3\nprint(1)\n' },
    ],
    ['RUN cat <<-A > /x <<B\n\t1\nA\n2\nB', { form: 'shell', text: 'cat <<-A > /x <<B\n\t1\nA\n2\nB' }],
    ['RUN <<EOF cat\n#!/x\nEOF', { form: 'shell', text: '<<EOF cat\n#!/x\nEOF' }],
    ['RUN echo a', { form: 'shell', text: 'echo a' }],
    ['RUN ["a", "b"]', { form: 'exec', args: ['a', 'b'] }],
  ])('%j executes %j', (text, script) => {
    expect(runScript(parse(text)[0] as RunInstruction)).toEqual(script)
  })
})

const COPY = {
  kind: 'COPY',
  files: [],
  from: undefined,
  chown: undefined,
  chmod: undefined,
  link: false,
  parents: false,
  exclude: [],
}
const ADD = {
  kind: 'ADD',
  files: [],
  chown: undefined,
  chmod: undefined,
  link: false,
  exclude: [],
  checksum: undefined,
}
const SUM = `sha256:${'ab'.repeat(32)}`

describe('instructions', () => {
  test.each<[string, object]>([
    ['COPY a b', { ...COPY, sources: ['a'], destination: 'b' }],
    ['COPY  a   b\tc/', { ...COPY, sources: ['a', 'b'], destination: 'c/' }],
    ['COPY ["a b", "c"]', { ...COPY, sources: ['a b'], destination: 'c' }],
    ['COPY [a b]', { ...COPY, sources: ['[a'], destination: 'b]' }],
    [
      'COPY --from=x --chown=1:2 --chmod=u=rwX,go=rX --link --parents --exclude=*.md --exclude="a b" s d',
      {
        ...COPY,
        sources: ['s'],
        destination: 'd',
        from: 'x',
        chown: '1:2',
        chmod: 'u=rwX,go=rX',
        link: true,
        parents: true,
        exclude: ['*.md', 'a b'],
      },
    ],
    ['COPY --link=FALSE -- --a b', { ...COPY, sources: ['--a'], destination: 'b' }],
    [
      'ADD https://x.test/a /',
      { ...ADD, sources: ['https://x.test/a'], destination: '/', keepGitDir: undefined, unpack: undefined },
    ],
    [
      `ADD --checksum=${SUM} --unpack=false --keep-git-dir https://x.test/a /`,
      { ...ADD, sources: ['https://x.test/a'], destination: '/', checksum: SUM, keepGitDir: true, unpack: false },
    ],
    [
      'ENV a=b c="d e" f=g\\ h',
      {
        kind: 'ENV',
        pairs: [
          { key: 'a', value: 'b' },
          { key: 'c', value: '"d e"' },
          { key: 'f', value: 'g\\ h' },
        ],
      },
    ],
    ['ENV a b = c  d', { kind: 'ENV', pairs: [{ key: 'a', value: 'b = c  d' }] }],
    ['ENV a=', { kind: 'ENV', pairs: [{ key: 'a', value: '' }] }],
    ['ENV a=b=c', { kind: 'ENV', pairs: [{ key: 'a', value: 'b=c' }] }],
    [
      'LABEL "a b"=c d=\'e f\'',
      {
        kind: 'LABEL',
        pairs: [
          { key: '"a b"', value: 'c' },
          { key: 'd', value: "'e f'" },
        ],
      },
    ],
    [
      'ARG a b=1 c=',
      {
        kind: 'ARG',
        args: [
          { key: 'a', value: undefined },
          { key: 'b', value: '1' },
          { key: 'c', value: '' },
        ],
      },
    ],
    ['EXPOSE 80 53/udp $P 7000-7010/tcp', { kind: 'EXPOSE', ports: ['80', '53/udp', '$P', '7000-7010/tcp'] }],
    ['VOLUME /a /b', { kind: 'VOLUME', paths: ['/a', '/b'] }],
    ['VOLUME ["/a b"]', { kind: 'VOLUME', paths: ['/a b'] }],
    ['USER a:b', { kind: 'USER', user: 'a:b' }],
    ['WORKDIR /a b', { kind: 'WORKDIR', path: '/a b' }],
    ['CMD a "b"', { kind: 'CMD', command: { form: 'shell', text: 'a "b"' } }],
    ['CMD []', { kind: 'CMD', command: { form: 'exec', args: [] } }],
    ['CMD ["a", "\\u00e4"]', { kind: 'CMD', command: { form: 'exec', args: ['a', 'ä'] } }],
    ["CMD ['a']", { kind: 'CMD', command: { form: 'shell', text: "['a']" } }],
    ['CMD ["a"] x', { kind: 'CMD', command: { form: 'shell', text: '["a"] x' } }],
    ['ENTRYPOINT ["/x"]', { kind: 'ENTRYPOINT', command: { form: 'exec', args: ['/x'] } }],
    ['ENTRYPOINT []', { kind: 'ENTRYPOINT', command: { form: 'exec', args: [] } }],
    ['SHELL ["/bin/bash", "-c"]', { kind: 'SHELL', shell: ['/bin/bash', '-c'] }],
    ['STOPSIGNAL SIGRTMIN+3', { kind: 'STOPSIGNAL', signal: 'SIGRTMIN+3' }],
    ['STOPSIGNAL 9', { kind: 'STOPSIGNAL', signal: '9' }],
    ['MAINTAINER A. U. Thor <a@x.test>', { kind: 'MAINTAINER', name: 'A. U. Thor <a@x.test>' }],
    [
      'HEALTHCHECK --interval=1m30s --timeout=500ms --start-period=0s --start-interval=2s --retries=5 CMD curl x',
      {
        kind: 'HEALTHCHECK',
        command: { form: 'shell', text: 'curl x' },
        intervalMs: 90_000,
        timeoutMs: 500,
        startPeriodMs: undefined,
        startIntervalMs: 2000,
        retries: 5,
      },
    ],
    [
      'HEALTHCHECK cmd ["a"]',
      {
        kind: 'HEALTHCHECK',
        command: { form: 'exec', args: ['a'] },
        intervalMs: undefined,
        timeoutMs: undefined,
        startPeriodMs: undefined,
        startIntervalMs: undefined,
        retries: undefined,
      },
    ],
    [
      'HEALTHCHECK none',
      {
        kind: 'HEALTHCHECK',
        command: undefined,
        intervalMs: undefined,
        timeoutMs: undefined,
        startPeriodMs: undefined,
        startIntervalMs: undefined,
        retries: undefined,
      },
    ],
  ])('%s', (text, expected) => {
    expect(details(text)).toEqual(expected)
  })

  test('RUN with all its flags', () => {
    expect(
      details('RUN --network=none --security=insecure --device=vendor.test/gpu=all,required --device=name=b x'),
    ).toEqual({
      kind: 'RUN',
      command: { form: 'shell', text: 'x' },
      heredocs: [],
      mounts: [],
      mountTexts: [],
      mountSources: [],
      network: 'none',
      security: 'insecure',
      devices: [
        { name: 'vendor.test/gpu=all', required: true },
        { name: 'b', required: false },
      ],
    })
  })

  test.each<[string, object]>([
    ['target=/t', { type: 'bind', from: undefined, source: '/', target: '/t', readOnly: true }],
    ['type=bind,from=x,src=/s,dst=/t,rw', { type: 'bind', from: 'x', source: '/s', target: '/t', readOnly: false }],
    [
      'TYPE=Bind,Destination=/t,readonly=false',
      { type: 'bind', from: undefined, source: '/', target: '/t', readOnly: false },
    ],
    [
      'type=cache,target=/c',
      {
        type: 'cache',
        id: '/c',
        target: '/c',
        sharing: 'shared',
        from: undefined,
        source: '/',
        mode: 0o755,
        uid: 0,
        gid: 0,
        readOnly: false,
      },
    ],
    [
      'type=cache,target=/c,id=i,sharing=Locked,from=f,source=s,mode=0700,uid=1,gid=2,ro',
      {
        type: 'cache',
        id: 'i',
        target: '/c',
        sharing: 'locked',
        from: 'f',
        source: 's',
        mode: 0o700,
        uid: 1,
        gid: 2,
        readOnly: true,
      },
    ],
    ['type=tmpfs,target=/t,size=64m', { type: 'tmpfs', target: '/t', sizeBytes: 67_108_864 }],
    ['type=tmpfs,target=/t,size=1.5KiB', { type: 'tmpfs', target: '/t', sizeBytes: 1536 }],
    ['type=tmpfs,target=/t', { type: 'tmpfs', target: '/t', sizeBytes: undefined }],
    [
      'type=secret,id=s',
      {
        type: 'secret',
        id: 's',
        target: '/run/secrets/s',
        env: undefined,
        required: false,
        mode: 0o400,
        uid: 0,
        gid: 0,
      },
    ],
    [
      'type=secret,id=s,env=S,required',
      { type: 'secret', id: 's', target: undefined, env: 'S', required: true, mode: 0o400, uid: 0, gid: 0 },
    ],
    [
      'type=secret,target=/root/.netrc,required=true,mode=0444',
      {
        type: 'secret',
        id: '.netrc',
        target: '/root/.netrc',
        env: undefined,
        required: true,
        mode: 0o444,
        uid: 0,
        gid: 0,
      },
    ],
    ['type=ssh', { type: 'ssh', id: 'default', target: undefined, required: false, mode: 0o600, uid: 0, gid: 0 }],
    ['"type=bind,target=/a"', { type: 'bind', from: undefined, source: '/', target: '/a', readOnly: true }],
    ['type=bind,\\"target=/a,b\\"', { type: 'bind', from: undefined, source: '/', target: '/a,b', readOnly: true }],
  ])('RUN --mount=%s', (text, mount) => {
    expect(details(`RUN --mount=${text} x`)).toMatchObject({ mounts: [mount] })
  })

  test('mounts with variables wait for the expansion, but for where they take files from', () => {
    expect(details('RUN --mount=from=x,target=$T --mount=type=cache,target=/c x')).toMatchObject({
      mounts: [{ type: 'cache' }],
      mountTexts: ['from=x,target=$T', 'type=cache,target=/c'],
      mountSources: ['x'],
    })
  })

  test('ONBUILD keeps the text and the instruction', () => {
    expect(details('onbuild  copy --chown=a . \\\n /x')).toMatchObject({
      kind: 'ONBUILD',
      trigger: 'copy --chown=a .  /x',
      instruction: { kind: 'COPY', chown: 'a', sources: ['.'], destination: '/x' },
    })
  })

  test('stages', () => {
    const file = parseDockerfile(
      'ARG V=1\nARG A B=2\nFROM --platform=$BUILDPLATFORM x:$V AS Build-1.a\nRUN y\nfrom build-1.a\nFROM scratch as z',
      'my.Dockerfile',
    )
    expect(file.globalArgs.flatMap(({ args }) => args.map(({ key }) => key))).toEqual(['V', 'A', 'B'])
    expect(file.stages).toMatchObject([
      {
        index: 0,
        name: 'build-1.a',
        from: 'x:$V',
        platform: '$BUILDPLATFORM',
        location: { file: 'my.Dockerfile', line: 3 },
      },
      { index: 1, name: undefined, from: 'build-1.a', platform: undefined, instructions: [] },
      { index: 2, name: 'z', from: 'scratch' },
    ])
  })

  test('a reserved stage name is a warning', () => {
    expect(parseDockerfile('FROM a AS scratch').warnings[0]?.message).toContain('reserved')
  })

  test('everything is frozen', () => {
    const file = parseDockerfile('FROM a\nENV a=b\nRUN --mount=target=/x <<E\nE\nONBUILD ADD a b')
    const visit = (value: unknown): void => {
      if (typeof value !== 'object' || value === null) return
      expect(Object.isFrozen(value)).toBe(true)
      for (const inner of Object.values(value)) visit(inner)
    }
    visit(file)
  })
})

test('instructions outside a file', () => {
  expect(parseInstructions('ENV a=b\nCMD ["x"]', '--change')).toMatchObject([{ kind: 'ENV' }, { kind: 'CMD' }])
  expect(() => parseInstructions('FROM a', '--change')).toThrow(/--change:1/)
})

test('bytes that are no UTF-8 and a byte order mark do no harm', () => {
  const bytes = new Uint8Array([0xef, 0xbb, 0xbf, ...new TextEncoder().encode('FROM a\nRUN '), 0xff])
  expect(parseDockerfile(bytes).stages[0]!.instructions[0]).toMatchObject({ command: { text: '\ufffd' } })
})

describe('agrees with dockerfile-ast', () => {
  test.each([
    'FROM a\nRUN b\nCOPY c d\n',
    '# syntax=docker/dockerfile:1\n\nARG V\nFROM node:$V AS build\nWORKDIR /app\nCOPY package*.json ./\nRUN npm ci && \\\n    npm cache clean\nCOPY . .\n\nFROM node\nCOPY --from=build /app /app\nCMD ["node", "x"]\n',
    'FROM debian\n# c\nRUN apt-get update \\\n# inside\n && apt-get install -y \\\n    a \\\n    b\n\nENV a=b \\\n    c=d\nEXPOSE 80\nHEALTHCHECK --interval=5s CMD x\n',
    '# escape=`\nFROM w\nRUN dir `\n  c:\\\nCMD x\n',
    'FROM a\r\nRUN b \\\r\n  c\r\nENV x=y\r\n',
    'FROM a\nRUN <<EOF\nx\nFROM y\nEOF\nRUN z\nCOPY <<a <<b /\n1\na\n2\nb\nUSER u\n',
    '\n\n  FROM a\n\tRUN b\n   LABEL a="b c" \\\n d=e',
    'FROM a AS b\nONBUILD RUN x\nSTOPSIGNAL 9\nVOLUME /a\nSHELL ["x"]\nMAINTAINER m\nADD a b\nENTRYPOINT x',
  ])('about %j', (text) => {
    const file = parseDockerfile(text)
    const ours = [
      ...file.globalArgs.map(({ kind, location }) => [kind, location.line, location.endLine] as const),
      ...file.stages.flatMap(({ location, instructions }) => [
        ['FROM', location.line, location.endLine] as const,
        ...instructions.map((one) => [one.kind, one.location.line, one.location.endLine] as const),
      ]),
    ]
    const theirs = DockerfileParser.parse(text)
      .getInstructions()
      .map((one) => [one.getKeyword(), one.getRange().start.line + 1, one.getRange().end.line + 1] as const)
    expect(ours).toEqual(theirs)
  })
})

test('parsing throws nothing but MayflyError with file and line, and what parses once parses again', () => {
  const piece = fc.constantFrom(
    ...'FROM a|RUN |COPY |ADD |ENV |ARG |LABEL |EXPOSE |ONBUILD |HEALTHCHECK |CMD |SHELL |VOLUME |\n|\n|\n|\\\n|\r\n|\t| |<<EOF|EOF|<<-"X Y"|--mount=|type=cache,|target=/x|--from=|--|["a"]|[1]|[|"|\'|$|${a|}|#|# escape=`|# syntax=|=|,|80|/udp|a|é|\0|{'.split(
      '|',
    ),
  )
  const text = fc.array(piece, { maxLength: 40 }).map((all) => all.join(''))
  fc.assert(
    fc.property(
      fc.oneof(
        text,
        text.map((rest) => `FROM a\n${rest}`),
        fc.string({ unit: 'binary' }),
      ),
      (source) => {
        try {
          const file = parseDockerfile(source)
          expect(parseDockerfile(new TextEncoder().encode(file.lines.join('\n'))).stages.length).toBe(
            file.stages.length,
          )
        } catch (error) {
          expect(error).toBeInstanceOf(MayflyError)
          expect(error).toMatchObject({ file: 'Dockerfile', line: expect.any(Number) })
        }
      },
    ),
    { numRuns: 4000 },
  )
})

function errorOf(text: string): MayflyError {
  try {
    parseDockerfile(text)
  } catch (error) {
    if (error instanceof MayflyError) return error
    throw error
  }
  throw new Error('expected an error')
}
