// What this page had of a file, against what is there now: both texts in one editor, place by place. Loaded when needed.
import { unifiedMergeView } from '@codemirror/merge'
import type { Extension } from '@codemirror/state'

/** Shows `kept` in the live editor; each place has two buttons, and what is taken is an edit like any other. */
export function comparison(kept: string): Extension {
  return unifiedMergeView({
    original: kept,
    highlightChanges: true,
    gutter: true,
    // Two texts of another origin may differ everywhere: look no longer than is felt.
    diffConfig: { timeout: 500 },
    mergeControls: (type, action) => {
      const button = document.createElement('button')
      button.type = 'button'
      button.className = 'compare-button'
      button.textContent = type === 'reject' ? 'Take mine' : 'Keep what is there'
      button.onmousedown = action
      // The library listens for the pointer only.
      button.onclick = (event) => { if (event.detail === 0) action(event) }
      return button
    }
  })
}
