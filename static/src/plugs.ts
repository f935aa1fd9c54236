// What a feature may put on a branch's bench: see `features/` for those that there are.
import type { Extension } from '@codemirror/state'
import type { ReadonlySignal } from '@preact/signals'
import type { FunctionComponent } from 'preact'
import type { Entry, Present } from '../client/types'
import type { Workbench } from './bench/workbench'
import type { OpenDocument } from '../client/document'
import type { IconName } from './ui/parts'

/** Puts its things on a bench once, when the bench is made. What it returns ends it. */
export type Feature = (bench: Workbench) => void | (() => void)

export type OnBench = FunctionComponent<{ bench: Workbench }>

/** A panel of the side bar. */
export interface Panel {
  readonly id: string
  readonly title: string
  readonly icon: IconName
  readonly order: number
  readonly Body: OnBench
  /** A number at its icon, where it is not 0; `words` say what is counted. */
  readonly badge?: ReadonlySignal<{ count: number, words: string } | null>
  /** Without it the panel is always there. */
  readonly isThere?: () => boolean
}

/** Where to go in a file: line and column from 1, and how much to select. */
export interface Spot { readonly line: number, readonly column: number, readonly length: number }

/** A small thing in the top bar, in the status bar at the bottom, or among the notices below the top bar. */
export interface Piece {
  readonly id: string
  readonly order: number
  readonly Body: OnBench
}

/**
 * What a group of the editor shows in one tab. Its key says all that is needed to make it again: `file:src/main.rs`.
 * One view may be shown in both groups at once.
 */
export interface View {
  readonly key: string
  /** The word on the tab. */
  readonly title: string
  /** The whole of it, for the tab's tooltip and for those who hear the page. */
  readonly about: string
  readonly icon?: IconName
  /** The path it is about, for the tree and the page's address. */
  readonly path?: string
  /** `isActive`: it is the one that its group shows. */
  readonly Body: FunctionComponent<{ bench: Workbench, view: View, group: number, isActive: boolean }>
  /** In the top bar and the status bar while it is the one that has the focus. */
  readonly Top?: FunctionComponent<{ bench: Workbench, view: View }>
  readonly Foot?: FunctionComponent<{ bench: Workbench, view: View }>
  /** A small sign before the title. */
  readonly Sign?: FunctionComponent<{ view: View }>
  /** A question to ask before the last tab of it is closed, or null. */
  readonly mayNotClose?: () => string | null
  /** Once its last tab is closed. */
  readonly destroy?: () => void
}

/** Makes views whose key begins with `id:`. `rest` comes from the address and the session's memory: it may be anything. */
export interface Kind {
  readonly id: string
  readonly make: (rest: string) => View | null
}

/** What a feature knows of a path, shown at its right in the tree. */
export interface Mark {
  /** One or two letters. */
  readonly letter: string
  /** The same in words. */
  readonly words: string
  readonly tone: 'new' | 'changed' | 'gone' | 'bad' | 'quiet'
}

/** Gives marks; read inside a signal's effect, so that a mark that is made of signals stays true. */
export interface Marker {
  readonly id: string
  readonly of: (entry: Entry) => Mark | null
}

/** An entry of the menu of a file or folder. */
export interface PathAction {
  readonly id: string
  readonly title: string
  readonly order: number
  readonly isThere?: (entry: Entry) => boolean
  readonly run: (entry: Entry) => unknown
}

/** A button at a person in the panel of people. */
export interface PersonAction {
  readonly id: string
  readonly title: string
  readonly order: number
  readonly isThere?: (person: Present) => boolean
  readonly run: (person: Present) => unknown
}

/** Something that each file editor gets: a gutter, a panel, keys. */
export interface EditorPart {
  readonly id: string
  readonly extension: (file: OpenDocument) => Extension
}
