// Random plans: what people, processes and machines do to one file, in any order. Nothing is lost, nothing is doubled.
import assert from 'node:assert/strict'
import fs from 'node:fs'
import path from 'node:path'
import { api, ask, atRest, branch, chance, count, crash, eventually, generator, hClient, holdStill, line, perch, session, shown, sleep, start, token, yClient } from '../harness.mjs'

const whole = (n) => Math.floor(chance.next() * n)
const pick = (list) => list[whole(list.length)]
const wire = (editor) => editor.socket?.webSocket ?? editor.provider.ws

class Plan {
  constructor(number) {
    this.end = number % 2 ? '\r\n' : '\n'
    this.tokens = ['base']
    this.gone = []
    /** Erased, but still in the file when a slow writer began: where its half file was taken in, the line is a new one. */
    this.maybe = []
    this.editors = []
    this.offline = new Map()
    this.stopped = new Map()
    this.slow = []
    this.done = []
  }
  async begin() {
    this.branch = await branch()
    this.file = path.join(this.branch.files, 'a.txt')
    this.route = `/v1/branches/${this.branch.id}/files/a.txt`
    fs.writeFileSync(this.file, `base${this.end}`)
    for (let n = 0; n < 6; n++) {
      const s = await session(this.branch, `user${n}`)
      this.editors.push(n % 2 ? hClient(s, 'a.txt') : yClient(s, 'a.txt'))
    }
    this.readers = [yClient(await session(this.branch, 'eve', 'read'), 'a.txt')]
    await eventually('synced', () => this.everybody().every((editor) => editor.synced()))
  }
  everybody() { return [...this.editors, ...this.readers] }
  mark(who) {
    const one = token(who)
    this.tokens.push(one)
    return one
  }
  type() { line(pick(this.editors), 'e', this.tokens) }
  /** Deletes a line that somebody typed and that this editor sees. */
  erase() {
    const editor = pick(this.editors)
    if (this.offline.has(editor) || this.stopped.has(editor)) return
    const text = editor.text.toString()
    const seen = this.tokens.filter((one) => one !== 'base' && text.includes(`${one}\n`))
    if (seen.length < 5) return
    const one = pick(seen)
    editor.text.delete(text.indexOf(`${one}\n`), one.length + 1)
    this.tokens.splice(this.tokens.indexOf(one), 1)
    this.gone.push(one)
  }
  async leave(step) {
    const editor = pick(this.editors)
    if (this.offline.has(editor) || this.stopped.has(editor)) return
    const provider = editor.socket ?? editor.provider
    provider.disconnect()
    if (editor.socket) await eventually('disconnected', () => editor.socket.status === 'disconnected')
    for (let n = 1 + whole(3); n > 0; n--) line(editor, 'off', this.tokens)
    this.offline.set(editor, step + whole(15))
  }
  comeBack(step) {
    for (const [editor, when] of this.offline) {
      if (step < when) continue
      void (editor.socket ?? editor.provider).connect()
      this.offline.delete(editor)
    }
    for (const [socket, when] of this.stopped.values()) if (step >= when) socket.resume()
    for (const [editor, [, when]] of this.stopped) if (step >= when) this.stopped.delete(editor)
  }
  stopReading(step) {
    const editor = pick(this.everybody())
    const socket = wire(editor)
    if (!socket || this.stopped.has(editor) || this.offline.has(editor)) return
    socket.pause()
    this.stopped.set(editor, [socket, step + whole(20)])
  }
  append() { fs.appendFileSync(this.file, `${this.mark('append')}${this.end}`) }
  /**
   * Reads, then writes what it read with one line more. perch is held still between the two, or the writer itself would
   * undo what was written meanwhile; where perch is in its own work at that moment is as random as before.
   */
  rewrite(write) {
    holdStill()
    try {
      const lines = fs.readFileSync(this.file, 'utf8').split(this.end)
      lines.splice(whole(lines.length), 0, this.mark('disk'))
      return write(lines.join(this.end))
    } finally {
      perch.kill('SIGCONT')
    }
  }
  rename() {
    this.rewrite((content) => {
      fs.writeFileSync(`${this.file}.new`, content)
      fs.renameSync(`${this.file}.new`, this.file)
    })
  }
  inPlace() { this.rewrite((content) => fs.writeFileSync(this.file, content)) }
  /**
   * Renamed by another process while people type, and back. Each rename is followed before the next step: a client that
   * comes back asks for the path it knows.
   */
  async move() {
    // All who are to be there are: one that came back in the middle, after a crash, would begin a document at the old path.
    const present = this.everybody().filter((one) => !this.offline.has(one) && !this.stopped.has(one))
    const typist = this.editors.find((one) => present.includes(one))
    if (!typist || !present.every((one) => one.synced())) return
    for (const to of ['b.txt', 'a.txt']) {
      const next = path.join(this.branch.files, to)
      fs.renameSync(this.file, next)
      this.file = next
      this.type()
      line(typist, 'moved', this.tokens)
      const one = this.tokens.at(-1)
      await eventually('the rename is followed', () => count(fs.readFileSync(next, 'utf8'), one) === 1)
    }
    assert.deepEqual(fs.readdirSync(this.branch.files), ['a.txt'])
  }
  create() {
    this.rewrite((content) => {
      fs.unlinkSync(this.file)
      fs.writeFileSync(this.file, content)
    })
  }
  /**
   * Many writes of whole lines with pauses, the file open all the while; others go on. On a busy machine a pause may be
   * longer than the quiet after which perch takes a half-written file for a whole one, so nobody erases meanwhile.
   */
  slowly() {
    if (this.slow.length > 0) return
    const [fd, content] = this.rewrite((content) => [fs.openSync(this.file, 'w'), content])
    this.maybe.push(...this.gone.filter((one) => content.includes(one)))
    const lines = content.split(this.end).map((one, n, all) => (n < all.length - 1 ? one + this.end : one))
    const size = Math.ceil(lines.length / (2 + whole(6)))
    this.slow.push((async () => {
      for (let n = 0; n < lines.length; n += size) {
        fs.writeSync(fd, lines.slice(n, n + size).join(''))
        await sleep(20)
      }
      fs.closeSync(fd)
    })())
  }
  async finishSlow() {
    await Promise.all(this.slow.splice(0))
  }
  async write() {
    const read = await api('GET', this.route)
    if (read.status !== 200) return
    const lines = (await read.text()).split(this.end)
    const one = token('api')
    lines.splice(whole(lines.length), 0, one)
    this.type()
    const answer = await api('PUT', this.route, lines.join(this.end), { 'if-match': read.headers.get('etag') })
    if (answer.status === 200) this.tokens.push(one)
    else assert.ok([412, 503].includes(answer.status), `${answer.status} ${await answer.text()}`)
  }
  async restart(hard) {
    await this.finishSlow()
    const writer = whole(2) ? await this.holdOpen() : undefined
    if (hard) await crash()
    else {
      perch.kill('SIGTERM')
      assert.equal((await perch.ended).code, 0)
    }
    for (let n = whole(4); n > 0; n--) pick([() => this.type(), () => this.append()])()
    if (writer !== undefined) fs.writeSync(writer, `${this.mark('late')}${this.end}`)
    await start()
    if (writer === undefined) return
    fs.writeSync(writer, `${this.mark('late')}${this.end}`)
    fs.closeSync(writer)
  }
  /** Opens the file for appending, and has perch replace it all the same where something was typed. */
  async holdOpen() {
    const writer = fs.openSync(this.file, 'a')
    this.type()
    await api('GET', this.route)
    return writer
  }
  async step(step) {
    const deeds = [
      [50, 'type'], [8, 'erase'], [8, 'leave'], [6, 'stopReading'], [5, 'append'], [4, 'rename'], [3, 'inPlace'], [3, 'create'],
      [3, 'slowly'], [4, 'write'], [2, 'move'], [2, 'crash'], [1, 'stop']
    ]
    let dice = chance.next() * deeds.reduce((sum, [weight]) => sum + weight, 0)
    const [, deed] = deeds.find(([weight]) => (dice -= weight) < 0)
    // Nobody else writes to a file that a slow writer holds half written.
    if (this.slow.length > 0 && !['type', 'leave', 'stopReading'].includes(deed)) await this.finishSlow()
    this.done.push(deed)
    if (deed === 'crash' || deed === 'stop') await this.restart(deed === 'crash')
    else await this[deed](step)
    this.comeBack(step)
  }
  async check() {
    await this.finishSlow()
    this.comeBack(Infinity)
    const all = this.everybody()
    await eventually('synced at the end', () => all.every((editor) => editor.synced())).catch((error) => {
      throw new Error(`${error.message}: ${all.map((e) => `${e.socket ? 'h' : 'y'} ${e.synced()} ${e.provider.unsyncedChanges} ${e.closed?.code} ${e.refused} ${e.socket?.status}`).join('; ')}`)
    })
    let text = await atRest(this.file, all, this.tokens)
    for (const one of this.gone) assert.ok(count(text, one) <= (this.maybe.includes(one) ? 1 : 0), `${one} was deleted`)
    const raw = fs.readFileSync(this.file, 'utf8')
    if (this.end === '\r\n') assert.equal(raw.replaceAll('\r\n', '').includes('\n'), false, shown(raw))
    // After a crash a client may bring what another typed before that one does; it is sent away, and comes back.
    const refused = ask(`select reason from draft where branch_id = '${this.branch.id}'`).flat()
    assert.deepEqual(refused.filter((reason) => !/another connected session/.test(reason)), [], 'nothing was refused')
    // The log, replayed from nothing.
    if (whole(3) === 0) {
      await crash()
      await start()
      const late = yClient(await session(this.branch, 'late', 'read'), 'a.txt')
      await eventually('late joiner', () => late.synced())
      text = await atRest(this.file, [...all, late], this.tokens)
    }
    if (whole(3) === 0) await this.remove()
  }
  /** Deleted for good: everybody hears it, nothing brings the file back, and the path is free for a new generation. */
  async remove() {
    await eventually('synced', () => this.everybody().every((editor) => editor.synced()))
    if (whole(2)) fs.unlinkSync(this.file)
    else assert.equal((await api('DELETE', this.route)).status, 204)
    await eventually('all are told', () => this.everybody().every((editor) => editor.closed?.code === 4404 || editor.refused))
    if (whole(2)) {
      await crash()
      await start()
    }
    await sleep(700)
    assert.ok(!fs.existsSync(this.file), 'nothing brings it back')
    const anew = yClient(await session(this.branch, 'user0'), 'a.txt')
    await eventually('opened anew', () => anew.synced())
    assert.equal(anew.text.toString(), '')
    const tokens = []
    line(anew, 'anew', tokens)
    await atRest(this.file, [anew], tokens)
    anew.stop()
  }
}

/** `PERCH_PLANS` plans of `PERCH_SEED`; `PERCH_PLAN` runs one of them alone. */
export async function random() {
  const seed = Number(process.env.PERCH_SEED ?? Date.now() % 1_000_000)
  const only = process.env.PERCH_PLAN
  const numbers = only ? [Number(only)] : Array.from({ length: Number(process.env.PERCH_PLANS ?? 3) }, (_, n) => n)
  console.log(`random plans: ${numbers.length}, PERCH_SEED=${seed}`)
  await start()
  for (const number of numbers) {
    chance.next = generator(seed * 1_000_003 + number)
    const plan = new Plan(number)
    try {
      await plan.begin()
      for (let step = 0; step < 60; step++) {
        await plan.step(step)
        await sleep(chance.next() * 20)
      }
      await plan.check()
    } catch (error) {
      throw new Error(`PERCH_SEED=${seed} PERCH_PLAN=${number}: ${error.message}\nafter: ${plan.done.join(' ')}\n${error.stack.split('\n').filter((one) => / at /.test(one)).join('\n')}`)
    }
    for (const editor of plan.everybody()) editor.stop()
  }
}
