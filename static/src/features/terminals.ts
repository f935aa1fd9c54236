// Commands of the terminals; the panel itself is part of the frame.
import type { Feature } from '../plugs'
import { Askers } from '../ui/shells'

export const terminals: Feature = (bench) => {
  bench.noticePieces.add({ id: 'terminals.asking', order: 20, Body: Askers })
  bench.commands.add(
    {
      id: 'terminals.toggle', title: 'Show or hide terminals', group: 'Terminals', keys: 'Ctrl-`', isForTerminals: true,
      run: () => bench.shells.toggle()
    },
    {
      id: 'terminals.new', title: 'New terminal', group: 'Terminals', keys: 'Ctrl-Shift-`', isForTerminals: true,
      isThere: () => bench.mayWrite.value, run: () => bench.shells.open()
    }
  )
}
