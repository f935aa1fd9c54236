// Getting anywhere by typing: the command palette, quick open, and the list of keys.
import { nameOf, parentOf } from '../bench/files'
import type { Workbench } from '../bench/workbench'
import { keysInWords, type Command } from '../commands'
import type { Feature } from '../plugs'
import { fits } from '../ui/fuzzy'
import { Dialog } from '../ui/parts'
import { Pick, type Choice } from '../ui/pick'

const there = (bench: Workbench): Command[] => bench.commands.all.peek().filter((command) =>
  command.isHidden !== true && bench.commands.isThere(command))

function commandChoices(bench: Workbench, query: string): Choice[] {
  const scored = there(bench).flatMap((command) => {
    const score = fits(query, `${command.group}: ${command.title}`)
    return score === null ? [] : [{ command, score }]
  })
  if (query !== '') scored.sort((a, b) => b.score - a.score)
  return scored.map(({ command: { id, title, group, keys } }) => ({
    id, title, about: group, run: () => bench.commands.run(id), ...keys === undefined ? {} : { keys: keysInWords(keys) }
  }))
}

/** Files by name; `:12` at the end names a line. */
async function fileChoices(bench: Workbench, query: string): Promise<Choice[]> {
  const [, name = query, line] = /^(.*?):(\d*)$/.exec(query) ?? []
  const { files } = await bench.session.files.find(name)
  const at = line === undefined || line === '' ? undefined : { line: Number(line), column: 1, length: 0 }
  return files.map(({ path }) => ({
    id: path, title: nameOf(path), about: parentOf(path), run: () => bench.openAt(path, at)
  }))
}

/** Keys that belong to the editor or a part of the page, and are no commands. */
const MORE_KEYS: ReadonlyArray<readonly [string, ReadonlyArray<readonly [string, string]>]> = [
  ['In the editor', [
    ['Mod-z', 'Undo your own last edit'], ['Mod-Shift-z', 'Redo'], ['Mod-f', 'Find and replace in this file'], ['Mod-d', 'Select the next same word'],
    ['Mod-/', 'Comment or uncomment'], ['Alt-arrowup', 'Move the line up'], ['Escape', 'Then Tab leaves the editor']
  ]],
  ['In the files', [
    ['Enter', 'Open, or unfold'], ['F2', 'Rename or move'], ['Delete', 'Delete'], ['Shift-F10', 'Menu of the file']
  ]],
  ['On tabs', [['arrowleft', 'The tab at the left'], ['Shift-arrowleft', 'Move the tab to the left'], ['Delete', 'Close']]]
]

function Keys({ bench, onClose }: { bench: Workbench, onClose: () => void }) {
  const groups = new Map<string, Array<readonly [string, string]>>()
  for (const { keys, title, group } of there(bench)) {
    if (keys !== undefined) groups.set(group, [...groups.get(group) ?? [], [keys, title]])
  }
  for (const [group, list] of MORE_KEYS) groups.set(group, [...list])
  return (
    <Dialog title="Keys" onClose={onClose} isWide>
      <div class="keys-scroll" tabIndex={0} role="region" aria-label="List of keys"><div class="keys">
        {[...groups].map(([group, list]) => (
          <section key={group}>
            <h3>{group}</h3>
            <dl>
              {list.map(([keys, title]) => <div key={keys}><dt>{title}</dt><dd><kbd>{keysInWords(keys)}</kbd></dd></div>)}
            </dl>
          </section>
        ))}
      </div></div>
      <p class="buttons"><button class="primary" onClick={onClose}>Close</button></p>
    </Dialog>
  )
}

export const palette: Feature = (bench) => {
  bench.commands.add(
    {
      id: 'palette', title: 'Show all commands', group: 'Anywhere', keys: 'Mod-Shift-p', isForTerminals: true,
      run: () => bench.showDialog((close) => (
        <Pick label="Commands" placeholder="What to do" nothing="No command is called that." onClose={close}
          look={(query) => commandChoices(bench, query)} />
      ))
    },
    {
      id: 'palette.f1', title: 'Show all commands (also)', group: 'Anywhere', keys: 'F1', isForTerminals: true,
      isHidden: true, run: () => bench.commands.run('palette')
    },
    {
      id: 'files.quickOpen', title: 'Go to a file', group: 'Anywhere', keys: 'Mod-p',
      run: () => bench.showDialog((close) => (
        <Pick label="Go to a file" placeholder="Part of its name, and :12 for a line" isRemote onClose={close}
          nothing="No file is called that. Files that git ignores are in the tree only." look={(query) => fileChoices(bench, query)} />
      ))
    },
    {
      id: 'keys', title: 'Show all keys', group: 'Anywhere', keys: 'Shift-F1', isForTerminals: true,
      run: () => bench.showDialog((close) => <Keys bench={bench} onClose={close} />)
    }
  )
}
