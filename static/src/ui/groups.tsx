// The groups of tabs and what each shows. Tabs are moved by dragging, within a group and between both.
import { useSignal } from '@preact/signals'
import { useEffect, useRef } from 'preact/hooks'
import { MAX_GROUPS } from '../bench/layout'
import type { Workbench } from '../bench/workbench'
import { keysInWords } from '../commands'
import type { View } from '../plugs'
import { closeTab } from './file_dialogs'
import { Icon, TabList } from './parts'
import { PATH_TYPE } from './tree'

/** What is dragged inside the page: a tab. */
const TAB_TYPE = 'application/x-perch-tab'

/** Ids hold no blanks, keys may. */
export const panelId = (key: string, group: number): string => `view-${group}-${encodeURIComponent(key)}`
const tabId = (key: string, group: number): string => `tab-${panelId(key, group)}`

const viewsOf = (bench: Workbench, group: number): View[] =>
  (bench.layout.groups.value[group]?.keys ?? []).map((key) => bench.layout.find(key)).filter((view) => view !== null)

interface Dragged { key: string, from: number }

/** The tab of a drag that is dropped; a browser gives it only then. */
function draggedTab(data: DataTransfer): Dragged | null {
  const text = data.getData(TAB_TYPE)
  return text === '' ? null : JSON.parse(text) as Dragged
}

const isOurs = (event: DragEvent): boolean =>
  (event.dataTransfer?.types ?? []).some((type) => type === TAB_TYPE || type === PATH_TYPE)

/** Puts what was dropped into a group, at a place among its tabs. */
function take(bench: Workbench, event: DragEvent, group: number, at: number): void {
  const data = event.dataTransfer
  if (data === null) return
  event.preventDefault()
  event.stopPropagation()
  const tab = draggedTab(data)
  const path = data.getData(PATH_TYPE)
  if (tab !== null) bench.layout.move(tab.key, tab.from, group, at)
  else if (path !== '') bench.open(path, group)
}

function Tabs({ bench, group }: { bench: Workbench, group: number }) {
  const list = useRef<HTMLDivElement>(null)
  /** Before which tab a drop would put it. */
  const gap = useSignal<number | null>(null)
  const views = viewsOf(bench, group)
  const active = bench.layout.groups.value[group]?.active
  useEffect(() => {
    list.current?.querySelector('.tab-active')?.scrollIntoView({ block: 'nearest', inline: 'nearest' })
  }, [active, bench.layout.groups.value.length])
  const focusTab = (at: number): void => {
    requestAnimationFrame(() => list.current?.querySelectorAll<HTMLElement>('[role=tab]')[at]?.focus())
  }
  const onKeyDown = (event: KeyboardEvent, at: number): void => {
    const view = views[at]
    if (view === undefined) return
    const step = event.key === 'ArrowRight' ? 1 : event.key === 'ArrowLeft' ? -1 : 0
    const to = event.key === 'Home' ? 0 : event.key === 'End' ? views.length - 1 : at + step
    const next = views[to]
    if (event.key === 'Delete') {
      void closeTab(bench, view.key, group)
      focusTab(Math.min(at, views.length - 2))
    } else if (step !== 0 && event.shiftKey && next !== undefined) {
      bench.layout.move(view.key, group, group, to)
      focusTab(to)
    } else if (to !== at && next !== undefined) {
      bench.layout.activate(next.key, group)
      focusTab(to)
    } else return
    event.preventDefault()
  }
  const placeAt = (event: DragEvent): number => {
    const tabs = [...list.current?.querySelectorAll('.tab') ?? []]
    const at = tabs.findIndex((tab) => {
      const { left, width } = tab.getBoundingClientRect()
      return event.clientX < left + width / 2
    })
    return at < 0 ? tabs.length : at
  }
  return (
    <div class="tabs" ref={list}
      onDragOver={(event) => {
        if (!isOurs(event)) return
        event.preventDefault()
        gap.value = placeAt(event)
      }}
      onDragLeave={() => { gap.value = null }}
      onDrop={(event) => {
        const at = placeAt(event)
        gap.value = null
        // Its own place is free once it has left it.
        const own = views.findIndex(({ key }) => key === (event.dataTransfer === null ? null : draggedTab(event.dataTransfer)?.key))
        take(bench, event, group, own >= 0 && own < at ? at - 1 : at)
      }}>
      <TabList label={group === 0 ? 'Open files' : 'Open files, second group'} ids={views.map(({ key }) => tabId(key, group))} />
      {views.map((view, at) => {
        const isActive = active === view.key
        const classes = ['tab', isActive && 'tab-active', gap.value === at && 'tab-gap', gap.value === views.length && at === views.length - 1 && 'tab-gap-after']
        return (
          <div class={classes.filter((one) => one !== false).join(' ')} role="presentation" key={view.key} data-key={view.key} draggable
            onDragStart={(event) => event.dataTransfer?.setData(TAB_TYPE, JSON.stringify({ key: view.key, from: group } satisfies Dragged))}
            onAuxClick={(event) => { if (event.button === 1) void closeTab(bench, view.key, group) }}>
            <button role="tab" id={tabId(view.key, group)} aria-selected={isActive} aria-controls={panelId(view.key, group)} tabIndex={isActive ? 0 : -1}
              title={view.about} onClick={() => bench.show(view.key, group)} onKeyDown={(event) => onKeyDown(event, at)}>
              {view.icon !== undefined && <Icon name={view.icon} />}
              {view.Sign !== undefined && <view.Sign view={view} />}
              {view.title}
            </button>
            <button class="tab-close" tabIndex={isActive ? 0 : -1} aria-label={`Close ${view.about}`} onClick={() => void closeTab(bench, view.key, group)}>
              <Icon name="close" />
            </button>
          </div>
        )
      })}
    </div>
  )
}

function Nothing({ bench }: { bench: Workbench }) {
  const hints = ['files.quickOpen', 'search', 'palette'].map((id) => bench.commands.find(id)).filter((one) => one?.keys !== undefined)
  const mayWrite = bench.mayWrite.value
  return (
    <div class="empty">
      <h2>Open a file</h2>
      {mayWrite
        ? <p>Choose one of this branch, or make a new one. Everyone on this branch sees what you type as you type it.</p>
        : <p>Choose one of this branch. You see what others type as they type it.</p>}
      {mayWrite && <p><button onClick={() => bench.commands.run('files.new')}><Icon name="plus" />New file</button></p>}
      <ul class="hints">
        {hints.map((one) => <li key={one!.id}><span>{one!.title}</span><kbd>{keysInWords(one!.keys!)}</kbd></li>)}
      </ul>
    </div>
  )
}

/** Where a drag of a tab or file over the text may go: into this group, or beside it. */
function Drop({ bench, group, isOnly }: { bench: Workbench, group: number, isOnly: boolean }) {
  const isBeside = useSignal<boolean | null>(null)
  const isAtRight = (event: DragEvent): boolean => {
    const { left, width } = (event.currentTarget as HTMLElement).getBoundingClientRect()
    return isOnly && event.clientX > left + width * 2 / 3
  }
  return (
    <div class={`drop ${isBeside.value === null ? '' : isBeside.value ? 'drop-beside' : 'drop-in'}`}
      onDragOver={(event) => {
        if (!isOurs(event)) return
        event.preventDefault()
        isBeside.value = isAtRight(event)
      }}
      onDragLeave={() => { isBeside.value = null }}
      onDrop={(event) => {
        const to = isAtRight(event) ? group + 1 : group
        isBeside.value = null
        take(bench, event, to, bench.layout.groups.value[to]?.keys.length ?? 0)
      }} />
  )
}

export function Groups({ bench }: { bench: Workbench }) {
  const { groups, focused } = bench.layout
  const isDragging = useSignal(false)
  useEffect(() => {
    // The editor takes drops for itself; while something of ours is dragged, a layer above it takes them.
    const start = (event: DragEvent): void => { if (isOurs(event)) setTimeout(() => { isDragging.value = true }) }
    const end = (): void => { isDragging.value = false }
    addEventListener('dragstart', start)
    for (const type of ['dragend', 'drop']) addEventListener(type, end)
    return () => {
      removeEventListener('dragstart', start)
      for (const type of ['dragend', 'drop']) removeEventListener(type, end)
    }
  }, [])
  return (
    <div class="groups">
      {groups.value.map(({ active }, group) => (
        <section key={group} class="group" aria-label={group === 0 ? 'Editor' : 'Second editor'} data-group={group} data-focused={focused.value === group}
          onFocusCapture={() => bench.layout.focus(group)} onPointerDownCapture={() => bench.layout.focus(group)}>
          {active !== null && (
            <div class="group-top">
              <Tabs bench={bench} group={group} />
              {groups.value.length < MAX_GROUPS && (
                <button class="quiet square" aria-label="Open beside" title="Open beside" onClick={() => bench.commands.run('editor.split')}><Icon name="split" /></button>
              )}
            </div>
          )}
          {active === null && <Nothing bench={bench} />}
          <div class="group-body">
            {viewsOf(bench, group).map((view) => (
              <section key={view.key} class="file" role="tabpanel" id={panelId(view.key, group)} aria-label={view.about}
                hidden={active !== view.key} data-file={view.path} data-key={view.key}>
                <view.Body bench={bench} view={view} group={group} isActive={active === view.key} />
              </section>
            ))}
            {isDragging.value && <Drop bench={bench} group={group} isOnly={groups.value.length === 1} />}
          </div>
        </section>
      ))}
    </div>
  )
}
