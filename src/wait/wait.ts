/** Everything that can be waited for. */

import type { HealthCheck } from '../backends/backend.js'
import { CommandWaitStrategy } from './command.js'
import { CompositeWaitStrategy } from './composite.js'
import { ExitWaitStrategy } from './exit.js'
import { FileWaitStrategy } from './file.js'
import { HealthCheckWaitStrategy } from './health-check.js'
import { HttpWaitStrategy, type HttpWaitStrategyOptions } from './http.js'
import { ListeningPortsWaitStrategy } from './listening-ports.js'
import { LogMessageWaitStrategy } from './log-message.js'
import { type Resource, type ResourceOptions, ResourceWaitStrategy } from './resource.js'
import { type Query, SqlWaitStrategy } from './sql.js'
import type { WaitStrategy } from './strategy.js'

/**
 * When a container is ready. All of them end at once when the container dies, and otherwise after 60 s unless
 * `withStartupTimeout` says something else.
 *
 * The default of a container is its health check, if it or its image has one, and else all exposed ports.
 *
 * @example
 * import { GenericContainer, Wait } from 'mayfly'
 *
 * const web = new GenericContainer('nginx:1.29')
 *   .withExposedPorts(80)
 *   .withWaitStrategy(Wait.forAll([Wait.forListeningPorts(), Wait.forHttp('/', 80)]))
 */
// biome-ignore lint/complexity/noStaticOnlyClass: testcontainers has it so, and users know it
export class Wait {
  /**
   * Until something listens on every exposed TCP port, or on these ports, exposed or not. It is told by the kernel, so it needs no
   * shell in the image and takes no time. UDP ports are left out: nobody can tell.
   */
  static forListeningPorts(...ports: readonly number[]): ListeningPortsWaitStrategy {
    return new ListeningPortsWaitStrategy(ports)
  }

  /**
   * Until the output has matched so often. Each line counts once; a pattern with a line break in it is held against the whole
   * text. Output from before the wait counts.
   *
   * @default times: 1
   * @example
   * import { Wait } from 'mayfly'
   *
   * Wait.forLogMessage(/database system is ready to accept connections/, 2)
   */
  static forLogMessage(message: string | RegExp, times = 1): LogMessageWaitStrategy {
    return new LogMessageWaitStrategy(message, times)
  }

  /** Until the health check passes: this one, else the definition's, else the image's. Fails at once where there is none. */
  static forHealthCheck(healthCheck?: HealthCheck): HealthCheckWaitStrategy {
    return new HealthCheckWaitStrategy(healthCheck)
  }

  /** Until it answers a request over HTTP. The port is the container's, and must be exposed. */
  static forHttp(path: string, port: number, options: HttpWaitStrategyOptions = {}): HttpWaitStrategy {
    return new HttpWaitStrategy(path, port, options)
  }

  /** Until a line for the image's shell, or a program with its arguments, ends with code 0 in the container. */
  static forSuccessfulCommand(command: string | readonly string[]): CommandWaitStrategy {
    return new CommandWaitStrategy(command)
  }

  /** Until it has ended with code 0: for containers that do one thing. */
  static forOneShotStartup(): ExitWaitStrategy {
    return new ExitWaitStrategy(0)
  }

  /** Until it has ended, with this exit code or any. @default exitCode: any */
  static forExit({ exitCode }: { readonly exitCode?: number } = {}): ExitWaitStrategy {
    return new ExitWaitStrategy(exitCode)
  }

  /** Until a file is there, and has this in it. The image needs no tools for that. */
  static forFile(path: string, { content }: { readonly content?: string | RegExp } = {}): FileWaitStrategy {
    return new FileWaitStrategy(path, content)
  }

  /**
   * Until a function of yours succeeds; it connects, asks and disconnects. What it throws, and `false`, mean "not yet".
   *
   * @example
   * import { Wait } from 'mayfly'
   *
   * const query = async (host: string, port: number, sql: string) => console.log(host, port, sql) // your client's
   * Wait.forSql((target) => query(target.getHost(), target.getMappedPort(5432), 'select 1'))
   */
  static forSql(query: Query): SqlWaitStrategy {
    return new SqlWaitStrategy(query)
  }

  /**
   * Until a resource of the `wait-on` package is there, which has to be installed. Ports that the container exposes are the
   * container's; options go to `wait-on`.
   *
   * @example
   * import { Wait } from 'mayfly'
   *
   * Wait.on('http-get://localhost:8080/health')
   */
  static on(resource: Resource, options: ResourceOptions = {}): ResourceWaitStrategy {
    return new ResourceWaitStrategy(resource, options)
  }

  /** Until all of them are so. */
  static forAll(strategies: readonly WaitStrategy[]): CompositeWaitStrategy {
    return new CompositeWaitStrategy(strategies, 'all')
  }

  /** Until the first of them is so. Fails when all have failed. */
  static forAny(strategies: readonly WaitStrategy[]): CompositeWaitStrategy {
    return new CompositeWaitStrategy(strategies, 'any')
  }
}
