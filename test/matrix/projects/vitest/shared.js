import { GenericContainer } from 'mayfly'
import { shareContainers } from 'mayfly/vitest'

export default shareContainers({ web: new GenericContainer(process.env.IMAGE).withCommand(['sleep', '600']) })
