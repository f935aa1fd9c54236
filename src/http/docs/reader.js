// Shows the OpenAPI document. All text goes in as text, never as markup.
const refName = (schema) => schema.$ref?.split('/').pop()

function element(name, attributes, ...children) {
  const made = document.createElement(name)
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value)
  made.append(...children)
  return made
}

/** Text with `code` and nothing else. */
function prose(text = '') {
  return element('span', {}, ...text.split('`').map((part, n) => (n % 2 ? element('code', {}, part) : part)))
}

/** A schema in a few words; named ones are links. */
function kind(schema = {}) {
  if (schema.$ref) return [element('a', { href: `#schema-${refName(schema)}` }, refName(schema))]
  const options = schema.oneOf ?? schema.anyOf ?? schema.allOf
  if (options) return options.flatMap((option, n) => [...(n ? [' or '] : []), ...kind(option)])
  if (schema.enum) return [schema.enum.map((value) => JSON.stringify(value)).join(' | ')]
  const types = [schema.type ?? 'any'].flat()
  return types.flatMap((type, n) => [
    ...(n ? [' or '] : []),
    ...(type === 'array' ? ['array of ', ...kind(schema.items)] : [type])
  ])
}

function rows(list) {
  return element('table', {}, ...list.map(([name, what, text]) => element('tr', {},
    element('td', {}, element('code', {}, name)), element('td', {}, ...what), element('td', {}, prose(text)))))
}

function properties(schema) {
  const required = new Set(schema.required)
  return rows(Object.entries(schema.properties ?? {}).map(([name, property]) =>
    [name + (required.has(name) ? '' : '?'), kind(property), property.description]))
}

function section(title, content) {
  return content ? [element('h4', {}, title), content] : []
}

function operation(path, method, one) {
  const body = one.requestBody && Object.entries(one.requestBody.content)
  const open = one.security?.some((way) => Object.keys(way).length === 0)
  return element('details', { id: one.operationId },
    element('summary', {}, element('span', { class: 'method' }, method.toUpperCase()),
      element('code', {}, path), ' ', element('span', { class: 'quiet' }, prose(one.summary))),
    element('p', {}, prose(one.description), open ? ' Needs no token.' : ''),
    ...section('Parameters', one.parameters?.length && rows(one.parameters.map((parameter) =>
      [parameter.name + (parameter.required ? '' : '?'), [...kind(parameter.schema), ` in ${parameter.in}`], parameter.description]))),
    ...section('Body', body && rows(body.map(([type, { schema }]) => [type, kind(schema), '']))),
    ...section('Answers', rows(Object.entries(one.responses).map(([status, answer]) =>
      [status, Object.values(answer.content ?? {}).flatMap(({ schema }) => kind(schema)), answer.description]))))
}

const main = document.getElementById('main')
try {
  const api = await (await fetch('/v1/openapi.json')).json()
  const operations = Object.entries(api.paths).flatMap(([path, item]) =>
    Object.entries(item).map(([method, one]) => ({ path, method, one })))
  const tags = api.tags ?? []
  main.replaceChildren(
    element('h1', {}, `${api.info.title} ${api.info.version}`), element('p', {}, prose(api.info.description)),
    element('p', {}, element('a', { href: '/v1/openapi.json' }, 'OpenAPI document')),
    ...tags.flatMap((tag) => [
      element('h2', { id: tag.name }, tag.name), element('p', {}, prose(tag.description)),
      ...operations.filter(({ one }) => one.tags?.includes(tag.name)).map(({ path, method, one }) => operation(path, method, one))
    ]),
    element('h2', {}, 'Schemas'),
    ...Object.entries(api.components?.schemas ?? {}).map(([name, schema]) =>
      element('details', { id: `schema-${name}` }, element('summary', {}, element('code', {}, name)),
        element('p', {}, prose(schema.description)), schema.properties ? properties(schema) : element('p', {}, ...kind(schema)))))
  const show = () => {
    const target = document.getElementById(decodeURIComponent(location.hash.slice(1)))
    if (target instanceof HTMLDetailsElement) target.open = true
    target?.scrollIntoView()
  }
  addEventListener('hashchange', show)
  show()
} catch (error) {
  main.replaceChildren(element('p', {}, `The document can't be shown: ${error.message}`))
}
