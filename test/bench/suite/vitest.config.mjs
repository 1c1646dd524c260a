// Vitest as it comes, but with time for whoever needs it.
export default { test: { include: ['*.spec.mjs'], testTimeout: 120_000, hookTimeout: 120_000 } }
