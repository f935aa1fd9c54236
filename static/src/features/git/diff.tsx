// One file's changes side by side, hunk by hunk. Each hunk can be staged, taken back or discarded by itself.
import { MergeView } from '@codemirror/merge'
import { EditorState, type Extension } from '@codemirror/state'
import { EditorView, lineNumbers } from '@codemirror/view'
import { useSignal } from '@preact/signals'
import { useEffect, useRef } from 'preact/hooks'
import type { FileDiff, Hunk } from '../../../client/git'
import { inWords } from '../../bench/notices'
import type { Workbench } from '../../bench/workbench'
import { languageOf } from '../../editor/languages'
import { theme } from '../../editor/theme'
import type { View } from '../../plugs'
import { confirmed } from '../../ui/file_dialogs'
import { Failure, Waiting } from '../../ui/parts'
import { sideOf, type Side } from './diff_key'

/** Hunks shown at once; each is two editors. */
const MOST = 60
/** Lines around a change that make a hunk: few, so that each can be staged by itself. */
const CONTEXT = 2

const textOf = ({ lines }: Hunk, without: 'added' | 'deleted'): string =>
  lines.filter(({ kind }) => kind !== without).map(({ text }) => text).join('\n')

function Lines({ path, hunk, language }: { path: string, hunk: Hunk, language: Extension }) {
  const place = useRef<HTMLDivElement>(null)
  useEffect(() => {
    const side = (start: number, name: string): Extension => [
      lineNumbers({ formatNumber: (n) => String(n + start - 1) }),
      EditorState.readOnly.of(true), EditorView.editable.of(false), EditorView.lineWrapping, language, theme,
      EditorView.contentAttributes.of({ 'aria-label': `${path}, ${name}, from line ${start}` })
    ]
    const view = new MergeView({
      a: { doc: textOf(hunk, 'added'), extensions: side(hunk.old_start, 'before') },
      b: { doc: textOf(hunk, 'deleted'), extensions: side(hunk.new_start, 'after') },
      parent: place.current!, gutter: true
    })
    return () => view.destroy()
  }, [hunk.id, language])
  return <div class="hunk-lines" ref={place} />
}

/** What can be done with a hunk of this side. */
function Actions({ bench, side, path, hunks, isWhole }: { bench: Workbench, side: Side, path: string, hunks: string[], isWhole: boolean }) {
  if (!bench.mayWrite.value || side.startsWith('commit-')) return null
  const { git: repository } = bench
  const picked = isWhole ? { paths: [path] } : { path, hunks }
  const what = isWhole ? 'file' : 'hunk'
  const act = (words: string, work: () => Promise<void>): void => void repository.step(words, work)
  const discard = async (): Promise<void> => {
    const isSure = await confirmed(bench, `Discard this ${what}?`, `The changes go out of ${path}, for everybody on this branch. A restore point keeps them.`, 'Discard')
    if (isSure) act('Discarding', () => repository.git.discard(picked, isWhole))
  }
  if (side === 'staged') {
    return <button onClick={() => act('Unstaging', () => repository.git.unstage(picked))}>Unstage {what}</button>
  }
  return (
    <>
      <button onClick={() => act('Staging', () => repository.git.stage(picked))}>Stage {what}</button>
      <button onClick={() => void discard()}>Discard {what}</button>
    </>
  )
}

const WHY: Record<string, string> = {
  too_large: 'There are too many changes to show them line by line.', name: 'Its name can’t be asked for here.',
  unread: 'It can’t be read now.'
}

export function DiffBody({ bench, view }: { bench: Workbench, view: View }) {
  const at = sideOf(view.key.slice('diff:'.length))!
  const diff = useSignal<FileDiff | null>(null)
  const isAsked = useSignal(false)
  const problem = useSignal<string | null>(null)
  const language = useSignal<Extension>([])
  const { git: repository } = bench
  const version = at.side.startsWith('commit-') ? 0 : repository.version.value
  useEffect(() => {
    let isGone = false
    const { git } = bench.session
    const { side, path } = at
    const ask = side.startsWith('commit-')
      ? git.diffOf(side.slice('commit-'.length), path)
      : git.diff({ path, staged: side === 'staged', untracked: side === 'work', context: CONTEXT })
    ask.then(({ files }) => {
      if (isGone) return
      diff.value = files.find((file) => file.path === path) ?? null
      isAsked.value = true
      problem.value = null
    }, (error: unknown) => { if (!isGone) problem.value = inWords(error) })
    return () => { isGone = true }
  }, [view.key, version])
  useEffect(() => {
    void languageOf(at.path)?.load().then((support) => { language.value = support }, () => {})
  }, [at.path])
  const file = diff.value
  return (
    <div class="diff" tabIndex={0} role="region" aria-label={view.about}>
      {problem.value !== null && <Failure>{problem.value}</Failure>}
      {/* Else the panel says it. */}
      {repository.problem.value !== null && !repository.isShown.value && <Failure>{repository.problem.value}</Failure>}
      {!isAsked.value && problem.value === null && <Waiting>Comparing…</Waiting>}
      {isAsked.value && file === null && <p class="diff-note">Nothing differs here any more.</p>}
      {file !== null && (
        <>
          <div class="diff-top">
            <span>{file.from !== null && `${file.from} → `}{file.path}</span>
            <span class="diff-counts">
              <span class="mark-new">+{file.added ?? 0}</span> <span class="mark-gone">−{file.deleted ?? 0}</span>
              <span class="unseen"> lines added and deleted</span>
            </span>
            <span class="grow" />
            <Actions bench={bench} side={at.side} path={at.path} hunks={[]} isWhole />
            {at.side === 'work' && file.change !== 'deleted' && <button onClick={() => bench.open(at.path)}>Open file</button>}
          </div>
          {file.is_binary && <p class="diff-note">A binary file: it is not compared line by line.</p>}
          {file.left_out !== null && <p class="diff-note">{WHY[file.left_out] ?? 'It is not compared line by line.'}</p>}
          {file.hunks.slice(0, MOST).map((hunk) => (
            <section class="hunk" key={hunk.id} data-hunk={hunk.new_start} aria-label={`Change at line ${hunk.new_start}`}>
              <div class="hunk-top">
                <span>Line {hunk.new_start}{hunk.header !== '' && ` · ${hunk.header}`}</span>
                <span class="grow" />
                {!file.conflict && !file.untracked && file.change === 'modified' &&
                  <Actions bench={bench} side={at.side} path={at.path} hunks={[hunk.id]} isWhole={false} />}
              </div>
              <Lines path={at.path} hunk={hunk} language={language.value} />
            </section>
          ))}
          {file.hunks.length > MOST && <p class="diff-note">{file.hunks.length - MOST} more changes are not shown.</p>}
        </>
      )}
    </div>
  )
}
