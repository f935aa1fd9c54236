// Links for others, rights of those who are here, and a copy of one's own for those who may only read.
import { apiToken, perch } from '../../access'
import type { Feature } from '../../plugs'
import { confirmed } from '../../ui/file_dialogs'
import { later } from '../../ui/parts'
import { ForkOffer } from './fork'

const Body = later(async () => (await import('./panel')).SharingPanel)

export const sharing: Feature = (bench) => {
  // Rights and links are the API token's: without one there is nothing of it.
  const mayManage = (): boolean => apiToken.value !== null
  const other = (session: string): boolean => mayManage() && session !== bench.seat.id
  bench.panels.add({ id: 'sharing', title: 'Sharing', icon: 'link', order: 50, Body, isThere: mayManage })
  bench.commands.add({
    id: 'sharing.show', title: 'Share this branch', group: 'People', isThere: mayManage, run: () => bench.togglePanel('sharing', true)
  })
  bench.personActions.add(
    {
      id: 'sharing.raise', title: 'Let write', order: 10, isThere: ({ session, permission }) => other(session) && permission === 'read',
      run: ({ session }) => perch.changeSession(bench.branch.id, session, { permission: 'write' })
    },
    {
      id: 'sharing.lower', title: 'Let only read', order: 10, isThere: ({ session, permission }) => other(session) && permission === 'write',
      run: ({ session }) => perch.changeSession(bench.branch.id, session, { permission: 'read' })
    },
    {
      id: 'sharing.end', title: 'End session', order: 20, isThere: ({ session }) => other(session),
      run: async ({ session, name }) => {
        const isSure = await confirmed(bench, 'End this session?', `${name} is cut off at once. What they typed stays.`, 'End session')
        if (isSure) await perch.endSession(bench.branch.id, session)
      }
    }
  )
  bench.noticePieces.add({ id: 'sharing.fork', order: 20, Body: ForkOffer })
}
