// What esbuild makes of files that are no script.
declare module '*.css'
declare module '*.svg' {
  const dataUrl: string
  export default dataUrl
}
