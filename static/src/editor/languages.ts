// Languages by file name, each loaded when the first file of it is opened.
import { StreamLanguage, type LanguageSupport } from '@codemirror/language'
import type { Extension } from '@codemirror/state'

interface Language {
  name: string
  load: () => Promise<LanguageSupport | Extension>
}

const javascript = (name: string, options: { jsx?: boolean, typescript?: boolean }): Language => ({
  name, load: async () => (await import('@codemirror/lang-javascript')).javascript(options)
})

const shell: Language = {
  name: 'Shell',
  load: async () => StreamLanguage.define((await import('@codemirror/legacy-modes/mode/shell')).shell)
}
const toml: Language = {
  name: 'TOML',
  load: async () => StreamLanguage.define((await import('@codemirror/legacy-modes/mode/toml')).toml)
}
const html: Language = { name: 'HTML', load: async () => (await import('@codemirror/lang-html')).html() }
const json: Language = { name: 'JSON', load: async () => (await import('@codemirror/lang-json')).json() }
const markdown: Language = {
  name: 'Markdown', load: async () => (await import('@codemirror/lang-markdown')).markdown()
}

const byExtension: Record<string, Language> = {
  js: javascript('JavaScript', { jsx: true }),
  mjs: javascript('JavaScript', {}),
  cjs: javascript('JavaScript', {}),
  jsx: javascript('JavaScript', { jsx: true }),
  ts: javascript('TypeScript', { typescript: true }),
  mts: javascript('TypeScript', { typescript: true }),
  tsx: javascript('TypeScript', { typescript: true, jsx: true }),
  rs: { name: 'Rust', load: async () => (await import('@codemirror/lang-rust')).rust() },
  py: { name: 'Python', load: async () => (await import('@codemirror/lang-python')).python() },
  css: { name: 'CSS', load: async () => (await import('@codemirror/lang-css')).css() },
  html, htm: html, svg: html, xml: html,
  json, webmanifest: json,
  md: markdown, markdown,
  toml,
  sh: shell, bash: shell, zsh: shell
}
const byName: Record<string, Language> = { 'Cargo.lock': toml, '.bashrc': shell, '.profile': shell }

export function languageOf(path: string): Language | null {
  const file = path.slice(path.lastIndexOf('/') + 1)
  const extension = file.slice(file.lastIndexOf('.') + 1).toLowerCase()
  return (Object.hasOwn(byName, file) ? byName[file] : Object.hasOwn(byExtension, extension) ? byExtension[extension] : null) ?? null
}

/** Prose is wrapped, code is not. */
export const isProse = (path: string): boolean => /\.(md|markdown|txt|rst)$|^[^.]+$/i.test(path.slice(path.lastIndexOf('/') + 1))
