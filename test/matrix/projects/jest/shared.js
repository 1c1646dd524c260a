const { GenericContainer } = require('mayfly')
const { shareContainers } = require('mayfly/jest')

module.exports = shareContainers({ web: new GenericContainer(process.env.IMAGE).withCommand(['sleep', '600']) })
