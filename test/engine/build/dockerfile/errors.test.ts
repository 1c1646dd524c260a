// biome-ignore-all lint/suspicious/noTemplateCurlyInString: variables of Dockerfiles look the same
import { describe, expect, test } from 'vitest'
import { parseDockerfile } from '../../../../src/engine/build/dockerfile/parse.js'
import { MayflyError } from '../../../../src/engine/errors.js'

function errorOf(text: string): MayflyError {
  try {
    parseDockerfile(text, 'dir/Dockerfile')
  } catch (error) {
    if (error instanceof MayflyError) return error
    throw error
  }
  throw new Error(`expected an error of ${JSON.stringify(text)}`)
}

/** A line after `FROM a`, words of the message, and maybe words of the hint. */
const ROWS: readonly [string, RegExp, RegExp?][] = [
  ['RUNN x', /unknown instruction "RUNN"/, /did you mean RUN\?/],
  ['COPPY a b', /unknown instruction/, /did you mean COPY\?/],
  ['ENTRYPIONT x', /unknown instruction/, /did you mean ENTRYPOINT\?/],
  ['HEALTCHECK CMD x', /unknown instruction/, /HEALTHCHECK/],
  ['xyzzy', /unknown instruction/, /known are FROM, RUN/],
  ['// comment', /unknown instruction/, /a comment begins with #/],
  ['apt-get install', /unknown instruction "apt-get"/],
  ['RUN', /RUN has no arguments/],
  ['RUN []', /RUN has an empty command/],
  ['RUN ["a", 1]', /JSON array holds 1; expected an array of strings/],
  ['CMD', /CMD has no arguments/],
  ['CMD [["a"]]', /JSON array holds \["a"\]/],
  ['ENTRYPOINT', /ENTRYPOINT has no arguments/],
  ['ENV', /ENV has no arguments/],
  ['ENV a', /ENV gives "a" no value; expected ENV name=value/],
  ['ENV a=b c', /cannot find = in "c"/],
  ['ENV =b', /name of ENV is blank/],
  ['LABEL', /LABEL has no arguments/],
  ['LABEL =x', /name of LABEL is blank/],
  ['ARG', /ARG has no arguments/],
  ['ARG =x', /name of ARG is blank/],
  ['EXPOSE', /EXPOSE has no arguments/],
  ['EXPOSE x', /invalid port "x": not a number/],
  ['EXPOSE 70000', /more than 65535/],
  ['EXPOSE 80/icmp', /not tcp, udp or sctp/],
  ['EXPOSE 20-10', /ends before it begins/],
  ['VOLUME', /VOLUME has no arguments/],
  ['VOLUME []', /VOLUME has an empty path/],
  ['VOLUME ["a", " "]', /VOLUME has an empty path/],
  ['USER', /USER has no arguments/],
  ['WORKDIR', /WORKDIR has no arguments/],
  ['STOPSIGNAL', /STOPSIGNAL has no arguments/],
  ['STOPSIGNAL SIGNOPE', /invalid signal "SIGNOPE"/],
  ['SHELL', /SHELL has no arguments/],
  ['SHELL []', /SHELL has no arguments/],
  ['SHELL /bin/sh -c', /SHELL is not in JSON form/],
  ['MAINTAINER', /MAINTAINER has no arguments/],
  ['COPY', /COPY has no arguments/],
  ['COPY a', /COPY has no destination; expected at least two arguments/],
  ['COPY ["a"]', /COPY has no destination/],
  ['ADD a', /ADD has no destination/],
  ['COPY a <<EOF\nEOF', /heredoc cannot be the destination/],
  ['COPY --form=x a b', /unknown flag --form of COPY/, /did you mean --from\?/],
  ['COPY --chwon=x a b', /unknown flag/, /did you mean --chown\?/],
  ['COPY --checksum=x a b', /unknown flag --checksum of COPY/],
  ['ADD --from=x a b', /unknown flag --from of ADD/],
  ['COPY --from a b', /flag --from of COPY has no value; expected --from=/],
  ['COPY --from=a --from=b a b', /flag --from of COPY is given twice/],
  ['COPY --link=maybe a b', /flag --link cannot be "maybe"; expected --link, --link=true/],
  ['COPY --link= a b', /flag --link has no value/],
  ['COPY --chmod=899 a b', /invalid mode "899"/],
  ['COPY --chmod=u+q a b', /invalid mode "u\+q"/],
  ['COPY --chown=a:b:c a b', /invalid owner "a:b:c"/],
  ['WORKDIR --x=y /', /unknown flag --x of WORKDIR; expected no flags/],
  ['RUN --network=bridge x', /--network cannot be "bridge"; expected one of default, none, host/],
  ['RUN --security=none x', /--security cannot be "none"/],
  ['RUN --mount=type=volume,target=/x x', /unsupported mount type "volume"/],
  ['RUN --mount=type=cahce,target=/x x', /unsupported mount type/, /did you mean cache\?/],
  ['RUN --mount=tagret=/x x', /unexpected key "tagret"/, /did you mean target\?/],
  ['RUN --mount=target x', /"target" has no value/],
  ['RUN --mount=from=$x,target=/x x', /"from" of a mount holds a variable/, /FROM … AS name/],
  ['RUN --mount=target=/x,size=1 x', /"size" is not for mounts of type bind/],
  ['RUN --mount=target=/x,mode=0700 x', /"mode" is not for mounts of type bind/],
  ['RUN --mount=type=tmpfs,target=/x,uid=1 x', /"uid" is not for mounts of type tmpfs/],
  ['RUN --mount=type=tmpfs,target=/x,size=much x', /invalid size "much"/],
  ['RUN --mount=target=/x,sharing=locked x', /"sharing" is not for mounts of type bind/],
  ['RUN --mount=target=/x,required x', /"required" is not for mounts of type bind/],
  ['RUN --mount=type=cache,target=/x,sharing=mine x', /unsupported sharing "mine"/],
  ['RUN --mount=type=cache,target=/x,mode=rwx x', /invalid mode "rwx"/],
  ['RUN --mount=type=cache,target=/x,uid=root x', /invalid uid "root"/],
  ['RUN --mount=target=/x,ro=maybe x', /invalid value "maybe" of "readonly"/],
  ['RUN --mount=type=secret x', /secret mount names no secret/],
  ['RUN --mount=type=secret,id=a,source=b x', /both "source" and "id"/],
  ['RUN --mount=type=secret,id=a,from=b x', /"from" is not for mounts of type secret/],
  ['RUN --mount=type=bind,\\"target=/x x', /quote in the wrong place/],
  ['RUN --device=required x', /a device has no name/],
  ['RUN --device=a,b x', /has the name a already/],
  [`ADD --checksum=sha256:${'a'.repeat(64)} a /`, /--checksum is only for URLs/],
  [`ADD --checksum=sha256:${'a'.repeat(64)} https://a https://b /`, /--checksum is for one source/],
  ['ADD --checksum=md5:1 https://a /', /invalid checksum "md5:1"/],
  ['HEALTHCHECK', /HEALTHCHECK has no arguments/],
  ['HEALTHCHECK curl', /unknown type "curl" of HEALTHCHECK/],
  ['HEALTHCHECK CMD', /HEALTHCHECK CMD has no arguments/],
  ['HEALTHCHECK CMD []', /HEALTHCHECK CMD has an empty command/],
  ['HEALTHCHECK NONE x', /HEALTHCHECK NONE takes no arguments/],
  ['HEALTHCHECK --interval=5 CMD x', /invalid duration of --interval "5"; expected a duration such as 30s/],
  ['HEALTHCHECK --interval=-5s CMD x', /--interval is -5s/],
  ['HEALTHCHECK --timeout=1us CMD x', /--timeout is 1us; expected at least 1ms/],
  ['HEALTHCHECK --retries=x CMD x', /--retries is "x"/],
  ['HEALTHCHECK --retries=-1 CMD x', /--retries is "-1"/],
  ['HEALTHCHECK --intervall=1s CMD x', /unknown flag/, /did you mean --interval\?/],
  ['ONBUILD', /ONBUILD has no arguments/],
  ['ONBUILD ONBUILD RUN x', /ONBUILD cannot be a trigger/],
  ['ONBUILD FROM x', /FROM cannot be a trigger/],
  ['ONBUILD MAINTAINER x', /MAINTAINER cannot be a trigger/],
  ['ONBUILD COPY a', /COPY has no destination/],
  ['ONBUILD CPY a b', /unknown instruction "CPY"/, /COPY/],
  ['RUN <<EOF\nx', /heredoc <<EOF is not terminated; expected a line that is just "EOF"/],
  ['RUN <<A <<B\nx\nA\n', /heredoc <<B is not terminated/],
  ['FROM', /FROM has no image/],
  ['FROM a b', /neither one argument nor three/],
  ['FROM a AS', /neither one argument nor three/],
  ['FROM a is b', /neither one argument nor three/],
  ['FROM a AS b c', /neither one argument nor three/],
  ['FROM a AS 1b', /invalid name for a build stage: "1b"/],
  ['FROM a AS b/c', /invalid name for a build stage/],
  ['FROM --plat=x a', /unknown flag --plat of FROM/],
  ['FROM a AS b\nFROM c AS B', /stage name "b" is taken by line 2/],
]

test.each(ROWS)('%j is refused', (text, message, hint) => {
  const error = errorOf(`FROM a\n${text}`)
  expect(error.message).toMatch(message)
  expect(error).toMatchObject({ code: 'DOCKERFILE_INVALID', file: 'dir/Dockerfile', expected: expect.any(String) })
  expect(error.message).toMatch(/^dir\/Dockerfile:\d+: /)
  expect(error.message).toContain('>>> ')
  if (hint) expect(error.hint).toMatch(hint)
})

describe('the whole file', () => {
  test.each([
    ['', /no instructions/, 1],
    ['# only\n# comments\n', /no instructions/, 2],
    ['ARG a\n', /no FROM/, 1],
    ['RUN x\nFROM a', /RUN stands before the first FROM/, 1],
    ['ARG x\n\nENV a=b\nFROM a', /ENV stands before the first FROM/, 3],
    ['# escape=x\nFROM a', /invalid escape character "x"; expected \\ or `/, 1],
    ['# escape=\\\n# escape=`\nFROM a', /only one escape directive/, 2],
    ['# syntax=docker/dockerfile\n# syntax=docker/dockerfile\nFROM a', /only one syntax directive/, 2],
    ['FROM a\n\\', /not followed by anything/, 2],
  ])('%j', (text, message, line) => {
    const error = errorOf(text)
    expect(error.message).toMatch(message)
    expect(error).toMatchObject({ code: 'DOCKERFILE_INVALID', line })
  })
})

test('the message shows the lines as BuildKit does, and the facts are fields', () => {
  const error = errorOf('FROM alpine\n\nRUN a\nCOPPY \\\n  x y\nRUN b\nRUN c\nRUN d\n')
  expect(
    error.message,
  ).toBe(`dir/Dockerfile:4: unknown instruction "COPPY"; expected one of FROM, RUN, COPY, ADD, ENV, \
ARG, LABEL, EXPOSE, VOLUME, USER, WORKDIR, CMD, ENTRYPOINT, SHELL, STOPSIGNAL, HEALTHCHECK, ONBUILD, MAINTAINER
--------------------
   3 |     RUN a
   4 | >>> COPPY \\
   5 | >>>   x y
   6 |     RUN b
--------------------
  Hint: did you mean COPY?`)
  expect(error).toMatchObject({ file: 'dir/Dockerfile', line: 4, value: 'COPPY', hint: 'did you mean COPY?' })
})

test('a long line that was pasted gets no guess', () => {
  const error = errorOf(`FROM a\n${'x'.repeat(100_000)}`)
  expect(error.hint).toMatch(/^known are/)
  expect(error.message.length).toBeLessThan(3000)
})
