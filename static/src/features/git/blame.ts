// Who typed this: a gutter beside the text, switched on by whoever wants it. What draws it is loaded then.
import { Compartment, type Extension } from '@codemirror/state'
import { ViewPlugin, type EditorView } from '@codemirror/view'
import { effect, signal } from '@preact/signals'
import type { OpenDocument } from '../../../client/document'
import type { Workbench } from '../../bench/workbench'
import type { Repository } from './repository'
import { BlameFoot } from './blame_foot'

/** Whether the gutter is shown, in all editors of this page. */
export const isBlameOn = signal(false)

export function blame(bench: Workbench, repository: Repository): () => void {
  const extension = (file: OpenDocument): Extension => {
    const gutter = new Compartment()
    return [
      gutter.of([]),
      ViewPlugin.define((view: EditorView) => {
        let isGone = false
        const stop = effect(() => {
          const isOn = isBlameOn.value
          void (async () => {
            // Not from within the update that has made this editor.
            const { blameGutter } = await (isOn ? import('./blame_gutter') : Promise.resolve({ blameGutter: null }))
            const made = blameGutter === null ? [] : blameGutter(bench, repository, file)
            if (!isGone && isOn === isBlameOn.peek()) view.dispatch({ effects: gutter.reconfigure(made) })
          })().catch(bench.notices.failed)
        })
        return {
          destroy: () => {
            isGone = true
            stop()
          }
        }
      })
    ]
  }
  bench.editorParts.add({ id: 'git.blame', extension })
  bench.commands.add({
    id: 'git.blame', title: 'Show or hide who typed each line', group: 'Git', keys: 'Ctrl-Alt-b', run: () => { isBlameOn.value = !isBlameOn.value }
  })
  bench.footPieces.add({ id: 'git.blame', order: 50, Body: BlameFoot })
  return () => { isBlameOn.value = false }
}
