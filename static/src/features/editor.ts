// Commands of the tabs and groups, and ways through the page by keys.
import type { Workbench } from '../bench/workbench'
import type { Feature } from '../plugs'
import { closeTab } from '../ui/file_dialogs'

/** The parts of the page that F6 goes through; what is not shown is passed over. */
const REGIONS = ['.top', '.activity', '.side', '.group[data-group="0"]', '.group[data-group="1"]', '.shells', '.foot']
const FOCUSABLE = '.cm-content, .xterm-helper-textarea, [tabindex="0"], button:not([disabled]):not([tabindex="-1"]), input, a[href]'

function toRegion(step: number): void {
  const regions = REGIONS.map((one) => document.querySelector<HTMLElement>(one)).filter((one) => one !== null && one.offsetParent !== null)
  const at = regions.findIndex((region) => region!.contains(document.activeElement))
  for (let n = 1; n <= regions.length; n += 1) {
    const next = regions[(at + step * n + regions.length * 2) % regions.length]
    const first = [...next?.querySelectorAll<HTMLElement>(FOCUSABLE) ?? []].filter((one) => one.offsetParent !== null)
    // In the editor the text comes before its tabs.
    const target = first.find((one) => one.matches('.cm-content, .xterm-helper-textarea, [role=treeitem]')) ?? first[0]
    if (target !== undefined) return target.focus()
  }
}

/** Goes to another tab of the group, around its ends. */
function step(bench: Workbench, by: number): void {
  const group = bench.layout.focused.peek()
  const { keys, active } = bench.layout.groups.peek()[group] ?? { keys: [], active: null }
  const next = active === null ? undefined : keys[(keys.indexOf(active) + by + keys.length) % keys.length]
  if (next !== undefined) bench.show(next, group)
}

export const editor: Feature = (bench) => {
  const { layout } = bench
  const isOpen = (): boolean => layout.view.value !== null
  const isSplit = (): boolean => layout.groups.value.length > 1
  const there = (): string | null => layout.view.peek()?.key ?? null
  bench.commands.add(
    {
      id: 'editor.split', title: 'Open beside', group: 'Editor', keys: 'Mod-\\', isThere: isOpen,
      run: () => { if (there() !== null) bench.show(there()!, layout.focused.peek() === 0 ? 1 : 0) }
    },
    {
      id: 'editor.close', title: 'Close the tab', group: 'Editor', keys: 'Alt-w', isThere: isOpen,
      run: () => { if (there() !== null) void closeTab(bench, there()!, layout.focused.peek()) }
    },
    {
      id: 'editor.closeOthers', title: 'Close the other tabs', group: 'Editor', isThere: isOpen,
      run: async () => {
        const group = layout.focused.peek()
        // One question after the other.
        for (const key of layout.groups.peek()[group]?.keys ?? []) if (key !== there()) await closeTab(bench, key, group)
      }
    },
    { id: 'editor.next', title: 'Next tab', group: 'Editor', keys: 'Alt-pagedown', isThere: isOpen, run: () => step(bench, 1) },
    { id: 'editor.previous', title: 'Previous tab', group: 'Editor', keys: 'Alt-pageup', isThere: isOpen, run: () => step(bench, -1) },
    {
      id: 'editor.otherGroup', title: 'Go to the other group', group: 'Editor', keys: 'Alt-o', isThere: isSplit,
      run: () => {
        const other = layout.focused.peek() === 0 ? 1 : 0
        const key = layout.groups.peek()[other]?.active
        if (key !== null && key !== undefined) bench.show(key, other)
      }
    },
    {
      id: 'editor.moveOver', title: 'Move the tab to the other group', group: 'Editor', keys: 'Alt-Shift-o', isThere: isOpen,
      run: () => {
        const from = layout.focused.peek()
        const to = from === 0 ? 1 : 0
        if (there() !== null) layout.move(there()!, from, to, layout.groups.peek()[to]?.keys.length ?? 0)
      }
    },
    { id: 'page.next', title: 'Next part of the page', group: 'Anywhere', keys: 'F6', isForTerminals: true, run: () => toRegion(1) },
    { id: 'page.previous', title: 'Previous part of the page', group: 'Anywhere', keys: 'Shift-F6', isForTerminals: true, run: () => toRegion(-1) },
    { id: 'page.side', title: 'Show or hide the side bar', group: 'Anywhere', keys: 'Mod-b', run: () => bench.toggleSide() }
  )
}
