/** The part of Vitest's task that tells of a failure. */

export interface Task {
  readonly name: string
  readonly result?: { readonly state?: string; readonly errors?: { message?: string }[] | undefined } | undefined
}

export function hasFailed(task: Task): boolean {
  return task.result?.state === 'fail'
}

/** Adds to the message of the failure, which every reporter shows. */
export function showWithFailure(task: Task, text: string): void {
  if (text === '') return
  const error = task.result?.errors?.at(-1)
  if (error) error.message = `${error.message ?? ''}${text}`
  else console.error(`${task.name}${text}`)
}
