export default { test: { globalSetup: './shared.js', include: ['*.spec.js'] } }
