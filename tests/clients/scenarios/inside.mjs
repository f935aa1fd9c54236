// What a session's processes can do, and what they can't. Each forbidden thing is tried for real, beside a control.
import assert from 'node:assert/strict'
import { execFileSync, spawnSync } from 'node:child_process'
import fs from 'node:fs'
import http from 'node:http'
import os from 'node:os'
import path from 'node:path'
import WebSocket from 'ws'
import { alive, as, lines, run, said } from '../exec.mjs'
import * as harness from '../harness.mjs'
import { api, atRest, binary, branch, count, crash, data, eventually, owner, session, sleep, start, temp, url, yClient } from '../harness.mjs'
import { ask, enter } from '../preview.mjs'

const put = (b, s, file, bytes, who = s) => api('PUT', `/v1/branches/${b.id}/sessions/${s.id}/private/${file}`, bytes, as(who))

/** Commands see what is on the screen, editors what commands write; output, exit codes, timeouts, hanging up. */
export async function commands() {
  await start()
  const b = await branch()
  const [ann, bob] = [await session(b, 'ann'), await session(b, 'bob')]
  assert.equal(await said(b, ann, 'whoami; pwd; echo $HOME'), 'root\n/project/workspace\n/root\n')
  for (const program of ['bash', 'git', 'node', 'python3', 'python']) {
    assert.match(await said(b, ann, { argv: [program, '--version'] }), /\d/, program)
  }
  const both = await run(b, ann, 'echo out; echo err >&2; exit 3')
  assert.deepEqual(both, { out: 'out\n', err: 'err\n', exit: { code: 3 } })
  assert.deepEqual((await run(b, ann, 'kill -9 $$')).exit, { signal: 9 })
  assert.equal(await said(b, ann, { argv: ['cat'], stdin: 'häm\n'.repeat(50_000) }), 'häm\n'.repeat(50_000))
  assert.equal(await said(b, ann, { shell: 'pwd; echo $A', cwd: '/tmp', env: { A: 'ß' } }), '/tmp\nß\n')
  // Three bytes at a time, characters whole in each line.
  for await (const line of lines(b, ann, "for i in 1 2 3; do printf '\\xe2\\x82'; sleep 0.05; printf '\\xac'; done")) {
    assert.ok(!(line.stdout ?? '').includes('\ufffd'))
  }
  assert.equal(await said(b, ann, { argv: ['head', '-c', '4000000', '/dev/zero'], output: 'base64' }).then((text) => text.length > 5_000_000), true)
  for (const [bad, code] of [[{ argv: ['no-such-program'] }, 'command_refused'], [{ argv: ['ls'], cwd: 'nowhere' }, 'command_refused'], [{}, 'bad_request']]) {
    const answer = await api('POST', `/v1/branches/${b.id}/exec`, bad, as(ann))
    assert.equal((await answer.json()).code, code, JSON.stringify(bad))
  }
  // An environment that is given with the session is its own.
  const given = await api('POST', `/v1/branches/${b.id}/sessions`, { id: 'ann', permission: 'write', env: { TOKEN: 'of ann=1', B: 'x' } })
  assert.equal(given.status, 200, await given.clone().text())
  assert.equal(await said(b, ann, 'echo "$TOKEN $B"'), 'of ann=1 x\n')
  assert.equal(await said(b, bob, 'echo "[$TOKEN]"'), '[]\n')
  assert.equal((await api('POST', `/v1/branches/${b.id}/sessions`, { id: 'rea', permission: 'read', env: { A: 'b' } })).status, 400)
  assert.equal((await api('POST', `/v1/branches/${b.id}/sessions`, { id: 'ann', permission: 'write', env: { 'A=': 'b' } })).status, 400)
  // With an API token it must be said whose command it is.
  assert.equal((await api('POST', `/v1/branches/${b.id}/exec`, { shell: 'true' })).status, 400)
  assert.equal((await api('POST', `/v1/branches/${b.id}/exec`, { shell: 'true', session: 'ann' })).status, 200)
  assert.equal((await api('POST', `/v1/branches/${b.id}/exec`, { shell: 'true', session: 'bob' }, as(ann))).status, 403)
  // The barrier: typed, and read at once by a command; and back.
  await api('PUT', `/v1/branches/${b.id}/files/a.txt`, 'start\n')
  const editor = yClient(bob, 'a.txt')
  await eventually('synced', () => editor.synced())
  const tokens = ['start']
  for (let turn = 0; turn < 5; turn++) {
    const typed = harness.token('typed')
    editor.text.insert(0, `${typed}\n`)
    tokens.push(typed)
    await eventually('the server has it', async () => (await (await api('GET', `/v1/branches/${b.id}/files/a.txt`)).text()).includes(typed))
    assert.ok((await said(b, ann, 'cat a.txt')).includes(typed), 'a command sees what is on the screen')
    const written = harness.token('written')
    await said(b, ann, { shell: 'echo "$LINE" >> a.txt', env: { LINE: written } })
    tokens.push(written)
    await eventually('editors see what a command wrote', () => editor.text.toString().includes(written))
  }
  await atRest(path.join(b.files, 'a.txt'), [editor], tokens)
  // Timed out, and hung up: all that came of it ends.
  const tree = (mark) => `sleep ${mark} & setsid sleep ${mark} & sleep ${mark}`
  const late = await run(b, ann, { shell: tree('31337.1'), timeout_ms: 300 })
  assert.deepEqual(late.exit, { timed_out: true })
  await eventually('its processes are gone', () => alive('31337.1').length === 0)
  const hangUp = new AbortController()
  const hearing = lines(b, ann, `echo on; ${tree('31337.2')}`, hangUp.signal)
  assert.deepEqual((await hearing.next()).value, { stdout: 'on\n' })
  await eventually('its processes are there', () => alive('31337.2').length >= 3)
  hangUp.abort()
  await hearing.next().catch(() => {})
  await eventually('its processes are gone', () => alive('31337.2').length === 0)
}

/** Nobody but a session itself gets at its `~/.private`, by whatever way; nor at anything else of perch or the machine. */
export async function apart() {
  await start()
  const b = await branch()
  const other = await branch({ name: 'other' })
  const [ann, bob, eve] = [await session(b, 'ann'), await session(b, 'bob'), await session(b, 'eve', 'read')]
  const far = await session(other, 'ann')
  const secret = 'perch-secret-of-ann'
  assert.equal((await put(b, ann, 'deep/token', secret)).status, 204)
  assert.equal((await put(b, ann, 'x', 'x', bob)).status, 403, 'another session')
  assert.equal((await api('PUT', `/v1/branches/${b.id}/sessions/ann/private/x`, 'x')).status, 403, 'the API token')
  // The control: ann herself reads it, through both of its names, and by a link that everybody sees.
  assert.equal(await said(b, ann, 'cat ~/.private/deep/token'), secret)
  assert.equal(await said(b, ann, 'cat /run/perch/private/deep/token; ls -ld ~/.private | cut -c1-10'), `${secret}drwx------\n`)
  await said(b, ann, 'ln -s ~/.private/deep/token ~/link; ln -s /root/.private/deep/token link; sleep 1000 < ~/.private/deep/token & disown')
  const pid = Number(await said(b, ann, 'pgrep -f "sleep 1000"'))
  assert.equal(await said(b, ann, `cat /proc/${pid}/root/root/.private/deep/token`), secret)
  const tries = [
    'cat ~/.private/deep/token', 'cat ~/link', 'cat link', 'cat /run/perch/private/deep/token',
    'cat /proc/*/root/root/.private/deep/token', 'cat /proc/*/cwd/.private/deep/token', 'for f in /proc/*/fd/*; do timeout 0.2 cat $f; done', 'cat /proc/*/environ | tr "\\0" "\\n"',
    'find / -xdev -name token 2>/dev/null | xargs -r cat', `grep -rs ${secret} /root /tmp /project /run /dev/shm /var /home /mnt`,
    'mkdir -p ~/below; mount --bind /root ~/below; cat ~/below/.private/deep/token', 'umount ~/.private; cat ~/.private/deep/token',
    'mv ~/.private ~/moved; cat ~/moved/deep/token', 'unshare -Urm cat ~/.private/deep/token', 'nsenter -t 1 -m cat /root/.private/deep/token',
    'ln ~/.private/deep/token ~/hard; cat ~/hard', 'python3 -c "import ctypes; c=ctypes.CDLL(None, use_errno=True); print(c.unshare(0x10000000), c.mount(b\'x\', b\'/mnt\', b\'tmpfs\', 0, None))"'
  ]
  for (const shell of tries) {
    for (const [where, s] of [[b, bob], [other, far]]) {
      const { out, err } = await run(where, s, { shell, timeout_ms: 20_000 })
      assert.equal(count(out + err, secret), 0, `${shell} by ${s.id}`)
    }
  }
  assert.equal(await said(b, ann, 'cat ~/.private/deep/token'), secret, 'and it is still there')
  // The mount is not taken apart, by one session or by the two together.
  for (const shell of ['rmdir ~/.private', 'mv ~/.private ~/x', 'ln -sfn /tmp ~/.private/../.private', 'rm -rf ~/.private']) {
    await run(b, bob, shell)
    assert.equal(await said(b, ann, 'stat -f -c %T ~/.private'), 'tmpfs\n', shell)
    assert.equal((await put(b, ann, 'deep/token', secret)).status, 204)
    assert.equal(await said(b, ann, 'cat /run/perch/private/deep/token'), secret, shell)
    assert.equal(count((await run(b, bob, `grep -rs ${secret} /root /tmp`)).out, secret), 0, shell)
  }
  // Other sessions' processes are out of sight and reach.
  const pids = await said(b, bob, "ps -eo pid=,args=; for p in $(seq 2 3000); do kill -0 $p 2>/dev/null && echo alive $p; done; true")
  assert.equal(count(pids, 'sleep 1000'), 0)
  await run(b, bob, 'kill -9 1; kill -STOP 1; kill -9 -1')
  assert.equal(await said(b, ann, `kill -0 ${pid} && echo alive`), 'alive\n')
  assert.equal(await said(b, bob, 'echo there'), 'there\n')
  // Fd passing over an abstract socket, shared memory, ptrace: not between sessions.
  const listen = "import socket,time\ns=socket.socket(socket.AF_UNIX); s.bind('\\0perch-test'); s.listen()\ns.settimeout(8)\ntry:\n c,_=s.accept(); print('met')\nexcept Exception as e: print('alone')"
  const meeting = run(b, ann, { argv: ['python3', '-c', listen] })
  await sleep(500)
  const knock = "import socket\ns=socket.socket(socket.AF_UNIX)\ntry:\n s.connect('\\0perch-test'); print('met')\nexcept Exception as e: print('refused')"
  assert.equal((await run(b, bob, { argv: ['python3', '-c', knock] })).out, 'refused\n')
  assert.equal((await run(b, ann, { argv: ['python3', '-c', knock] })).out, 'met\n', 'the control: the session itself')
  assert.equal((await meeting).out, 'met\n')
  // Of perch and the machine: no environment, key, database, data folder, process, device, setting.
  const server = await said(b, bob, [
    'cat /proc/*/environ 2>/dev/null | tr "\\0" "\\n"', `ls -la ${data} ${temp} 2>&1`, 'ls -la /proc/1/root/ /proc/1/fd /proc/1/cwd 2>&1', 'cat /proc/1/maps 2>&1',
    'find / -xdev \\( -name "*.sqlite*" -o -name keys.json \\) -not -path "/usr/*" -not -path "/opt/*" 2>/dev/null', 'cat /etc/shadow 2>&1', 'true'
  ].join('; '))
  assert.equal(count(server, owner), 0)
  assert.ok(!/sqlite|keys\.json/.test(server.replaceAll(/ls: .*/g, '')), server)
  for (const shell of [
    'echo x > /proc/sys/kernel/hostname', 'echo x > /proc/sysrq-trigger', 'echo core > /proc/sys/kernel/core_pattern', 'touch /usr/x', 'touch /etc/x', 'touch /x',
    'mknod ~/null c 1 3 && cat ~/null', 'dmesg', 'hostname other', 'mount -o remount,rw /usr', 'chroot / true', 'date -s 2000-01-01'
  ]) assert.notEqual((await run(b, bob, shell)).exit.code, 0, shell)
  // Set-id programs give nothing.
  assert.equal(await said(b, bob, 'grep -E "NoNewPrivs|CapEff|CapBnd" /proc/self/status'), 'CapEff:\t0000000000000000\nCapBnd:\t0000000000000000\nNoNewPrivs:\t1\n')
  assert.equal(await said(b, bob, 'ulimit -c'), '0\n', 'no core files')
  // The other branch: neither its files nor its home.
  await said(b, ann, 'echo mine > ~/of-ann; echo mine > of-ann')
  assert.equal(await said(other, far, 'ls ~ /project/workspace | grep -c of-ann; true'), '0\n')
  assert.equal(await said(b, bob, 'cat ~/of-ann of-ann'), 'mine\nmine\n', 'the control: a session of the branch')
  // A read session runs nothing, writes nothing, and reads as itself.
  const base = `/v1/branches/${b.id}/sessions/eve`
  assert.equal((await api('POST', `/v1/branches/${b.id}/exec`, { shell: 'true' }, as(eve))).status, 403)
  assert.equal((await api('POST', `/v1/branches/${b.id}/exec`, { shell: 'true', session: 'eve' })).status, 403)
  for (const file of ['root/evil', 'tmp/evil', 'project/workspace/evil']) {
    assert.equal((await api('PUT', `${base}/files/${file}`, 'x', as(eve))).status, 403, file)
  }
  assert.equal(await (await api('GET', `${base}/files/root/of-ann`, undefined, as(eve))).text(), 'mine\n')
  assert.equal((await api('GET', `${base}/files/root/.private/deep/token`, undefined, as(eve))).status, 404)
  assert.equal((await api('GET', `${base}/files/root/link`, undefined, as(eve))).status, 404)
  // A token of less right than its session reaches nothing that the session runs; no file route leads to what is private.
  const lesser = { ...ann, ...await (await api('POST', `/v1/branches/${b.id}/sessions/ann/token`, { permission: 'read' }, as(ann))).json() }
  assert.equal((await put(b, ann, '.environment', 'BASH_ENV=/tmp/x\0', lesser)).status, 403)
  for (const headers of [as(ann), as(lesser), {}]) {
    for (const file of ['root/.private/deep/token', 'run/perch/private/deep/token', 'root/link', 'proc/self/environ']) {
      const answer = await api('GET', `/v1/branches/${b.id}/sessions/ann/files/${file}`, undefined, headers)
      assert.equal(answer.status, 403, file)
    }
    // The agent's own standard error leads nowhere.
    assert.equal((await api('GET', `/v1/branches/${b.id}/sessions/ann/files/proc/self/fd/2`, undefined, headers)).status, 409)
    assert.equal((await api('GET', `/v1/branches/${b.id}/sessions/ann/files/root/of-ann`, undefined, headers)).status, 200)
  }
  for (const file of ['root/.private/new', 'root/.private/deep/new/er']) {
    assert.equal((await api('PUT', `/v1/branches/${b.id}/sessions/ann/files/${file}`, 'x')).status, 403, file)
  }
  assert.equal((await api('DELETE', `/v1/branches/${b.id}/sessions/ann/files/root/.private/deep`)).status, 403)
  assert.equal(await said(b, ann, 'cat ~/.private/deep/token; ls -A ~/.private/deep'), `${secret}token\n`)
  // What perch itself does with the branch carries none of it away.
  await api('POST', `/v1/branches/${b.id}/fork`, {})
  await eventually('forked', async () => (await (await api('GET', '/v1/branches')).json()).branches.filter((one) => one.state === 'ready').length === 3)
  const found = await (await api('GET', `/v1/branches/${b.id}/search?query=${secret}`)).json()
  assert.deepEqual(found.matches, [])
  assert.equal(spawnSync('grep', ['-rsl', secret, data]).stdout.toString(), '')
}
/** The agents of a perch: its children that are pid 1 of a pid namespace of their own. */
function agents(parent) {
  return fs.readdirSync('/proc').filter((pid) => /^\d+$/.test(pid)).flatMap((pid) => {
    try {
      const status = fs.readFileSync(`/proc/${pid}/status`, 'utf8')
      if (!status.includes(`PPid:\t${parent}\n`) || !/NSpid:\t\d+\t1\n/.test(status)) return []
      return [Number(pid)]
    } catch {
      return []
    }
  })
}

/** Ended session, ended agent, changed right, killed perch: all its processes go, and so does what was private. */
export async function inside_ends() {
  await start()
  const b = await branch()
  let [ann, bob] = [await session(b, 'ann'), await session(b, 'bob')]
  assert.equal(agents(harness.perch.pid).length, 0, 'an editing-only session costs no process')
  const daemon = (mark) => `setsid nohup sleep ${mark} >/dev/null 2>&1 & sleep ${mark} >/dev/null 2>&1 & echo ${mark} > ~/.private/mark; disown -a`
  await said(b, ann, daemon('4242.1'))
  await said(b, bob, daemon('4242.2'))
  assert.equal(agents(harness.perch.pid).length, 2)
  // A new token, a revoked one: the session is the same, and what is private stays.
  ann = await session(b, 'ann')
  assert.equal(await said(b, ann, 'cat ~/.private/mark'), '4242.1\n')
  await api('POST', `/v1/branches/${b.id}/sessions/ann/revoke`)
  assert.equal((await api('POST', `/v1/branches/${b.id}/exec`, { shell: 'true' }, as(ann))).status, 401)
  ann = await session(b, 'ann')
  assert.equal(await said(b, ann, 'cat ~/.private/mark'), '4242.1\n')
  // Ended: all of it goes, and none of the neighbour's.
  assert.equal((await api('DELETE', `/v1/branches/${b.id}/sessions/ann`)).status, 204)
  await eventually('ended', () => alive('4242.1').length === 0)
  assert.equal(alive('4242.2').length, 2)
  ann = await session(b, 'ann')
  assert.equal(await said(b, ann, 'ls ~/.private'), '')
  // Lowered: at once, also what runs.
  await said(b, ann, daemon('4242.3'))
  const running = run(b, ann, 'sleep 4242.3')
  await eventually('runs', () => alive('4242.3').length === 3)
  await api('PATCH', `/v1/branches/${b.id}/sessions/ann`, { permission: 'read' })
  assert.deepEqual((await running).exit, { lost: true })
  await eventually('lowered', () => alive('4242.3').length === 0)
  assert.equal((await api('POST', `/v1/branches/${b.id}/exec`, { shell: 'true' }, as(ann))).status, 403)
  // The agent is killed: the session starts anew.
  for (const pid of agents(harness.perch.pid)) process.kill(pid, 'SIGKILL')
  await eventually('gone', () => alive('4242.2').length === 0)
  assert.equal(await said(b, bob, 'ls ~/.private; echo anew'), 'anew\n')
  // perch is killed: nothing is left, and nothing private comes back.
  await said(b, bob, daemon('4242.4'))
  const before = agents(harness.perch.pid)
  assert.ok(before.length > 0)
  await crash()
  await eventually('all gone', () => alive('4242.4').length === 0 && before.every((pid) => !fs.existsSync(`/proc/${pid}`)))
  await start()
  assert.equal(await said(b, bob, 'ls ~/.private; ls /tmp'), '')
  // perch stops in order, with processes running.
  await said(b, bob, daemon('4242.5'))
  harness.perch.kill('SIGTERM')
  assert.deepEqual(await harness.perch.ended, { code: 0, signal: null })
  await eventually('all gone', () => alive('4242.5').length === 0)
  // The branch goes with what runs in it.
  await start()
  await said(b, bob, daemon('4242.6'))
  assert.equal((await api('DELETE', `/v1/branches/${b.id}?confirm=${b.id}`)).status, 204)
  await eventually('all gone', () => alive('4242.6').length === 0)
}

/** A fork bomb, a memory hog, files without end: the session's own calls fail; perch and the neighbour go on. */
export async function greedy() {
  await start({}, ['--session-memory', String(256 * 1024 * 1024), '--session-processes', '100', '--session-private', String(8 * 1024 * 1024)])
  const b = await branch()
  const [ann, bob] = [await session(b, 'ann'), await session(b, 'bob')]
  const { sums_by_kernel: byKernel, level } = await (await api('GET', '/v1/isolation')).json()
  console.log(`isolation ${level}, sums ${byKernel ? 'by the kernel' : 'by perch'}`)
  await said(b, bob, 'true')
  const fine = async (what) => {
    assert.equal(await said(b, bob, 'echo fine'), 'fine\n', what)
    assert.equal((await fetch(`${url}/readyz`)).status, 200, what)
  }
  const bomb = run(b, ann, { shell: 'bomb() { bomb | bomb & }; bomb; sleep 3', timeout_ms: 8_000 })
  await sleep(1_500)
  await fine('a fork bomb')
  await bomb
  await api('DELETE', `/v1/branches/${b.id}/sessions/ann`)
  const again = await session(b, 'ann')
  const hog = await run(b, again, { argv: ['python3', '-c', 'x=[]\nwhile True: x.append(bytearray(16*1024*1024)); print(len(x), flush=True)'], timeout_ms: 60_000 })
  assert.notDeepEqual(hog.exit, { timed_out: true })
  assert.ok(hog.out.trim().split('\n').length < 64, 'it was stopped near its bound')
  await fine('a memory hog')
  const last = await session(b, 'ann')
  const full = await run(b, last, 'head -c 100000000 /dev/zero > ~/.private/big')
  assert.match(full.err, /No space left/)
  assert.equal((await put(b, last, 'more', 'x'.repeat(1_000_000))).status, 507)
  const inodes = await run(b, last, 'rm -f ~/.private/big; for i in $(seq 10000); do : > ~/.private/$i || exit 7; done')
  assert.equal(inodes.exit.code, 7)
  await fine('a filler')
  const loud = run(b, last, { argv: ['yes'], timeout_ms: 2_000 })
  await fine('endless output')
  await loud
  // More at once than a session may: refused, and none is lost.
  const hangUp = new AbortController()
  const many = await Promise.all(Array.from({ length: 70 }, () => fetch(`${url}/v1/branches/${b.id}/exec`, {
    method: 'POST', signal: hangUp.signal, headers: { 'content-type': 'application/json', ...as(last) }, body: JSON.stringify({ argv: ['sleep', '60'] })
  })))
  const refused = many.filter((answer) => answer.status === 429 || answer.status === 422)
  assert.ok(refused.length >= 6 && refused.length < 70, `${refused.length} of 70 refused`)
  await fine('many commands')
  hangUp.abort()
  await eventually('room again', async () => (await run(b, last, 'echo again').catch(() => ({}))).out === 'again\n')
}

/** Endless output that nobody reads waits with its program: it is held neither by perch nor by the agent. */
export async function unread() {
  await start()
  const b = await branch()
  const [ann, bob] = [await session(b, 'ann'), await session(b, 'bob')]
  await said(b, ann, 'true')
  const held = () => [harness.perch.pid, ...agents(harness.perch.pid)].reduce((sum, pid) =>
    sum + Number(/VmRSS:\s+(\d+)/.exec(fs.readFileSync(`/proc/${pid}/status`, 'utf8'))[1]) * 1024, 0)
  const before = held()
  const answers = await Promise.all(Array.from({ length: 8 }, () => new Promise((resolve, reject) => {
    const asked = http.request(`${url}/v1/branches/${b.id}/exec`, {
      method: 'POST', agent: false, headers: { 'content-type': 'application/json', ...as(ann) }
    }, (answer) => {
      answer.pause()
      resolve(answer)
    })
    asked.on('error', reject)
    asked.end(JSON.stringify({ argv: ['yes', 'unread-by-anyone'] }))
  })))
  await eventually('they run', () => alive('unread-by-anyone').length === 8)
  // Far longer than it takes them to write more than the bound below.
  await sleep(3_000)
  const grown = held() - before
  assert.ok(grown < 48 * 1024 * 1024, `${grown} bytes more`)
  fs.writeFileSync(path.join(b.files, 'a.txt'), 'one\n')
  const editor = yClient(bob, 'a.txt')
  await eventually('others go on', () => editor.synced() && editor.text.toString() === 'one\n')
  assert.equal(await said(b, ann, 'echo so does it'), 'so does it\n')
  // The control: they wrote all that while they could, and go on when somebody reads.
  let read = 0
  answers[0].on('data', (bytes) => { read += bytes.length })
  answers[0].resume()
  await eventually('it goes on', () => read > 64 * 1024 * 1024)
  for (const answer of answers) answer.destroy()
  await eventually('and ends with its reader', () => alive('unread-by-anyone').length === 0)
}

/** A branch that is full: its processes write no more, what they remove makes room, and who writes on all the same is ended. */
export async function filler() {
  const mega = 1024 * 1024
  await start({}, ['--max-branch-bytes', String(40 * mega)])
  const b = await branch()
  const [ann, bob] = [await session(b, 'ann'), await session(b, 'bob')]
  const used = () => Number(execFileSync('du', ['-sbc', b.files, path.join(b.files, '../home'), path.join(b.files, '../scratch')]).toString().trim().split('\n').at(-1).split('\t')[0])
  const editor = yClient(bob, 'a.txt')
  fs.writeFileSync(path.join(b.files, 'a.txt'), 'one\n')
  await eventually('synced', () => editor.synced())
  const hearing = new AbortController()
  const events = { text: '' }
  const stream = await api('GET', `/v1/branches/${b.id}/events`, undefined, as(bob))
  hearing.signal.addEventListener('abort', () => stream.body.cancel().catch(() => {}))
  const heard = (async () => {
    for await (const text of stream.body.pipeThrough(new TextDecoderStream(), { signal: hearing.signal })) events.text += text
  })().catch(() => {})
  // A shell that was there before: it stays, and so do its commands.
  const shell = run(b, bob, { shell: 'until [ -e full ]; do sleep 0.1; done; echo x > of-bob; echo "left $?"; rm -f ~/big* /tmp/big* big*; until echo x > of-bob; do sleep 0.1; done; echo wrote', timeout_ms: 60_000 })
  await said(b, bob, 'true')
  const fill = await run(b, ann, {
    shell: 'for i in $(seq 400); do for at in ~ /tmp .; do head -c 400000 /dev/zero > $at/big$i || { echo "stopped at $i"; exit 3; }; done; sleep 0.1; done', timeout_ms: 60_000
  })
  assert.match(fill.err, /File too large/)
  assert.equal(fill.exit.code, 3)
  assert.ok(used() >= 40 * mega && used() < 140 * mega, `${used()} bytes`)
  await eventually('it is told', () => events.text.includes('"branch.full"'))
  // Another session, one that begins now, and who edits.
  const late = await session(b, 'late')
  await eventually('a session that begins now is held too', async () => (await run(b, late, 'echo x > ~/of-late')).exit.code !== 0)
  assert.equal(await said(b, late, 'cat a.txt && rm -f of-late && echo fine'), 'one\nfine\n')
  const typed = harness.token('typed')
  editor.text.insert(0, `${typed}\n`)
  await eventually('what is typed is on disk', () => fs.readFileSync(path.join(b.files, 'a.txt'), 'utf8').includes(typed))
  fs.writeFileSync(path.join(b.files, 'full'), '')
  const { out } = await shell
  assert.match(out, /^left [^0]/)
  assert.match(out, /wrote\n$/)
  // Whoever raises the bound again is ended.
  const evader = run(b, ann, {
    argv: ['python3', '-c', "import resource, time\nfor i in range(100000):\n resource.setrlimit(resource.RLIMIT_FSIZE, (resource.getrlimit(resource.RLIMIT_FSIZE)[1],)*2)\n open(f'/root/grown{i%400}','ab').write(b'x'*400000); time.sleep(0.03)"], timeout_ms: 120_000
  })
  await evader.catch(() => {})
  assert.ok(used() < 400 * mega, `${used()} bytes`)
  assert.equal(await said(b, ann, 'rm -f ~/grown*; echo again'), 'again\n')
  await eventually('and all write again', async () => (await run(b, ann, 'echo x > ~/of-ann')).exit.code === 0)
  hearing.abort()
  await heard
}

/** A token in `~/.private` is nowhere else: not in the database, the data folder, logs, processes, answers, metrics. */
export async function canary() {
  const log = { text: '' }
  await start({ PERCH_LOG: 'trace' }, [], log)
  const b = await branch()
  const [ann, bob] = [await session(b, 'ann'), await session(b, 'bob')]
  const secret = `canary-${Math.random().toString(36).slice(2)}`
  const visible = 'canary-in-the-open'
  const seen = new Set()
  const look = () => {
    for (const pid of fs.readdirSync('/proc').filter((name) => /^\d+$/.test(name) && Number(name) !== process.pid)) {
      for (const file of ['cmdline', 'environ']) {
        try {
          const text = fs.readFileSync(`/proc/${pid}/${file}`, 'utf8')
          if (text.includes(secret)) seen.add(`${pid} ${file} ${text.replaceAll('\0', ' ').slice(0, 200)}`)
          if (text.includes(visible)) seen.add('control')
        } catch { /* it ended */ }
      }
    }
  }
  const watching = setInterval(look, 20)
  assert.equal((await put(b, ann, '.git-credentials', `https://ann:${secret}@git.example.org\n`)).status, 204)
  assert.equal((await put(b, ann, '../x', secret)).ok, false)
  assert.equal((await put(b, ann, 'a'.repeat(300), secret)).ok, false)
  await said(b, ann, { argv: ['sh', '-c', 'sleep 0.3', visible] })
  await said(b, ann, 'cat ~/.git-credentials > /dev/null; cp ~/.git-credentials ~/.private/copy; git config --global --list; ulimit -c unlimited 2>/dev/null; sh -c "kill -ABRT \\$\\$"; true')
  await said(b, ann, { argv: ['cat'], stdin: secret })
  await said(b, ann, `echo visible-in-file-${visible} > control.txt`)
  assert.equal((await run(b, bob, 'cat ~/.git-credentials')).exit.code, 1)
  await api('POST', `/v1/branches/${b.id}/fork`, {})
  const metrics = await (await api('GET', '/metrics')).text()
  clearInterval(watching)
  await api('DELETE', `/v1/branches/${b.id}/sessions/ann`)
  harness.perch.kill('SIGTERM')
  await harness.perch.ended
  assert.ok(seen.delete('control'), 'the watch sees what is in the open')
  assert.deepEqual([...seen], [])
  assert.equal(count(log.text, secret), 0, 'in the log')
  assert.ok(log.text.includes('/private/'), 'the log tells of the request')
  assert.equal(count(log.text, visible), 0, 'commands are not logged')
  assert.equal(count(metrics, secret), 0)
  const held = (text) => spawnSync('grep', ['-rl', text, data]).stdout.toString()
  assert.equal(held(secret), '')
  assert.notEqual(held(visible), '', 'the control')
  if (process.env.DATABASE_URL) {
    const dump = execFileSync('pg_dump', [process.env.DATABASE_URL]).toString()
    assert.equal(count(dump, secret), 0)
    assert.ok(dump.includes('ann'))
  }
}

/** Each level of isolation that perch knows; where the machine refuses, documents go on and the cure is told. */
export async function levels() {
  const nobody = 'perch-tests'
  if (spawnSync('id', [nobody]).status !== 0) execFileSync('useradd', ['--system', '--no-create-home', nobody])
  const uid = execFileSync('id', ['-u', nobody]).toString().trim()
  const lend = (line) => {
    for (const file of ['/etc/subuid', '/etc/subgid']) {
      const others = fs.existsSync(file) ? fs.readFileSync(file, 'utf8').split('\n').filter((one) => one && !one.startsWith(`${nobody}:`)) : []
      fs.writeFileSync(file, [...others, ...line].join('\n') + '\n')
    }
  }
  lend([`${nobody}:300000:65536`])
  fs.chmodSync(temp, 0o755)
  const own = (folder) => {
    fs.mkdirSync(folder, { recursive: true })
    execFileSync('chown', ['-R', `${nobody}:${nobody}`, folder])
    return folder
  }
  const user = ['setpriv', '--reuid', nobody, '--regid', nobody, '--clear-groups', '--no-new-privs']
  const ordinary = user.slice(0, -1)
  // A copy that everybody may execute: the build folder may be closed to others.
  const copy = path.join(temp, 'perch')
  fs.copyFileSync(binary, copy)
  fs.chmodSync(copy, 0o755)
  const capless = ['setpriv', '--bounding-set', '-sys_admin', '--inh-caps', '-all']
  for (const [level, within, args] of [
    ['root', [], []], ['subuid', ordinary, []], ['nested', ordinary, ['--isolation', 'nested']], ['nested', user, ['--isolation', 'nested']], ['subuid', capless, []]
  ]) {
    const folder = own(path.join(temp, `data-${level}-${within.length}`))
    if (within.length === 0 || within === capless) execFileSync('chown', ['-R', 'root:root', folder])
    harness.runIn(within, copy)
    await start({ PERCH_DATA: folder, HOME: folder }, args)
    const b = { ...(await branch()), files: null }
    const [ann, bob] = [await session(b, 'ann'), await session(b, 'bob')]
    const told = await (await api('GET', '/v1/isolation')).json()
    assert.deepEqual([told.level, told.refused], [level, null], `${within}`)
    assert.equal(await said(b, ann, 'whoami; echo secret > ~/.private/token; cat ~/.private/token; echo shared > f; git init -q . && echo git'), 'root\nsecret\ngit\n')
    assert.equal(await said(b, bob, 'cat f; ls ~/.private; echo more >> f'), 'shared\n')
    // Files go both ways between perch and the session.
    assert.equal((await api('PUT', `/v1/branches/${b.id}/files/g/h.txt`, 'by perch\n', as(ann))).status, 201)
    assert.equal(await said(b, bob, 'cat g/h.txt; echo by bob >> g/h.txt; rm -r g && echo gone'), 'by perch\ngone\n')
    const editor = yClient(bob, 'f')
    await eventually('synced', () => editor.synced())
    editor.text.insert(0, 'typed\n')
    await eventually('written', async () => (await said(b, ann, 'cat f')) === 'typed\nshared\nmore\n')
    for (const shell of ['umount ~/.private', 'rmdir ~/.private', 'unshare -Ur true', 'touch /usr/x', 'kill -9 $(pgrep -f perch | grep -v $$) 2>/dev/null; false']) {
      assert.notEqual((await run(b, bob, shell)).exit.code, 0, shell)
    }
    assert.equal(await said(b, ann, 'cat ~/.private/token'), 'secret\n')
    editor.stop()
    await crash()
  }
  // Refused: user namespaces are switched off in a namespace of our own.
  const off = ['unshare', '--user', '--map-root-user', '--', 'sh', '-c', 'echo 0 > /proc/sys/user/max_user_namespaces && exec "$0" "$@"']
  harness.runIn(off, copy)
  const folder = path.join(temp, 'data-off')
  fs.mkdirSync(folder)
  await start({ PERCH_DATA: folder })
  const b = await branch()
  const ann = await session(b, 'ann')
  const refusal = await (await api('POST', `/v1/branches/${b.id}/exec`, { shell: 'true' }, as(ann))).json()
  assert.equal(refusal.code, 'isolation_unavailable')
  assert.match(refusal.detail, /max_user_namespaces/)
  assert.match(harness.perch.said, /max_user_namespaces/)
  assert.equal((await api('PUT', `/v1/branches/${b.id}/files/a.txt`, 'documents work\n')).status, 201)
  await crash()
  // None: by name only, the owner's own session alone, and said everywhere.
  harness.runIn([], copy)
  await start({ PERCH_DATA: own(path.join(temp, 'data-none')) }, ['--isolation', 'none'])
  const bare = await branch()
  const [first, second] = [await session(bare, 'ann'), await session(bare, 'bob')]
  assert.equal(first.isolation, 'none')
  assert.match(await (await fetch(`${url}/healthz`)).text(), /isolation=none/)
  const exec = (s, headers) => api('POST', `/v1/branches/${bare.id}/exec`, { shell: 'echo bare', session: s }, headers)
  assert.equal((await exec('ann', as(first))).status, 403)
  assert.match(await (await exec('ann')).text(), /bare/)
  assert.equal((await exec('bob')).status, 403, 'one session at a time')
  assert.equal((await exec('bob', as(second))).status, 403)
  await crash()
  lend([])
  assert.ok(uid)
}

/** A socket of a terminal: what it was shown, and what it was told. */
async function screen(b, s, terminal, query = '') {
  const socket = new WebSocket(`${url.replace('http', 'ws')}/v1/branches/${b.id}/terminals/${terminal}/socket?token=${s.token}${query}`)
  const held = { socket, text: '', bytes: Buffer.alloc(0), told: [] }
  socket.binaryType = 'nodebuffer'
  socket.on('message', (data, isBinary) => {
    if (!isBinary) return held.told.push(JSON.parse(data))
    held.bytes = Buffer.concat([held.bytes, data])
    held.text = held.bytes.toString()
  })
  await new Promise((resolve, reject) => { socket.on('open', resolve); socket.on('error', reject) })
  held.type = (text) => socket.send(Buffer.from(text))
  held.shows = (what) => eventually(`${s.id} sees ${what}`, () => held.text.includes(what)).catch((error) => { throw new Error(`${error.message}: ${JSON.stringify(held.text.slice(-500))}`) })
  return held
}

/** Terminals in a session's own isolation: real programs, a viewer beside, a lost socket, the end. */
export async function shells() {
  await start()
  const b = await branch()
  const [ann, bob, eve] = [await session(b, 'ann'), await session(b, 'bob'), await session(b, 'eve', 'read')]
  const base = `/v1/branches/${b.id}/terminals`
  assert.equal((await put(b, ann, 'token', 'of-ann-alone')).status, 204)
  assert.equal((await api('POST', base, {}, as(eve))).status, 403)
  const opened = await api('POST', base, { rows: 30, cols: 100 }, as(ann))
  assert.equal(opened.status, 201, await opened.clone().text())
  const { id } = await opened.json()
  const [typing, watching] = [await screen(b, ann, id), await screen(b, eve, id)]
  typing.type('whoami; stty size; echo "in $(pwd) $((6 * 7))"\r')
  for (const one of [typing, watching]) for (const what of ['root\r\n', '30 100\r\n', 'in /project/workspace 42\r\n']) await one.shows(what)
  assert.ok(watching.text.endsWith(typing.text.slice(-20)))
  watching.type('touch by-the-viewer\r')
  ;(await screen(b, bob, id)).type('touch by-the-viewer\r')
  typing.type('cat ~/.private/token; touch by-the-typist; echo do""ne\r')
  await typing.shows('done\r\n')
  await eventually('the control', () => fs.existsSync(path.join(b.files, 'by-the-typist')))
  assert.ok(!fs.existsSync(path.join(b.files, 'by-the-viewer')))
  // What is typed into a file is there when a command is entered.
  await api('PUT', `/v1/branches/${b.id}/files/a.txt`, 'start\n')
  const editor = yClient(bob, 'a.txt')
  await eventually('synced', () => editor.synced())
  for (let turn = 0; turn < 5; turn++) {
    const typed = harness.token('screen')
    editor.text.insert(0, `${typed}\n`)
    await eventually('the server has it', async () => (await (await api('GET', `/v1/branches/${b.id}/files/a.txt`)).text()).includes(typed))
    typing.type('clear; cat a.txt\r')
    await typing.shows(typed)
  }
  // vim, in full: opens the file, changes it, and the editor has it.
  typing.type('vi a.txt\r')
  const hasVi = (await run(b, ann, 'command -v vi')).exit.code === 0
  if (hasVi) {
    await sleep(500)
    typing.type('GoBY-VI\x1b:wq\r')
    await eventually('the editor sees what vi wrote', () => editor.text.toString().includes('BY-VI'))
    // It throws away what is typed until it has left.
    await eventually('vi is gone', () => alive('vi\0a.txt').length === 0)
  }
  // The opener's socket is lost: the program runs on, and all of it is shown again.
  typing.type('clear; n=0; while sleep 0.1; do echo tick $((n++)); done\r')
  await typing.shows('tick 3')
  typing.socket.terminate()
  await watching.shows('tick 8')
  const back = await screen(b, ann, id)
  await back.shows('tick 12')
  assert.ok(back.text.includes('tick 2\r\n') && back.text.includes('tick 9\r\n'), 'replayed')
  back.type('\x03')
  back.type('exit 7\r')
  await eventually('told of the end', () => back.told.some((one) => one.type === 'exit' && one.code === 7))
  const closed = await (await api('GET', `${base}/${id}`, undefined, as(bob))).json()
  assert.equal(closed.exit?.code ?? closed.code, 7, JSON.stringify(closed))
  // Closed by its opener, with a program that ignores it; ended with its session.
  const [stubborn, last] = await Promise.all([0, 1].map(async () => (await (await api('POST', base, { command: ['bash', '-c', 'trap "" HUP TERM; sleep 5151.1 & wait; sleep 5151.1'] }, as(ann))).json()).id))
  await eventually('run', () => alive('5151.1').length >= 2)
  assert.equal((await api('DELETE', `${base}/${stubborn}`, undefined, as(bob))).status, 403)
  assert.ok((await api('DELETE', `${base}/${stubborn}`, undefined, as(ann))).ok)
  await eventually('over', async () => (await (await api('GET', `${base}/${stubborn}`)).json()).exit)
  assert.ok(last)
  assert.equal((await api('DELETE', `/v1/branches/${b.id}/sessions/ann`)).status, 204)
  await eventually('none left', () => alive('5151.1').length === 0)
}

/** Sessions of a branch share a network; branches, perch and the machine are out of reach; ports are told and shown. */
export async function neighbours() {
  const lan = http.createServer((request, answer) => answer.end('from the machine'))
  await new Promise((resolve) => lan.listen(0, '0.0.0.0', resolve))
  const own = lan.address().port
  const address = Object.values(os.networkInterfaces()).flat().find((one) => one.family === 'IPv4' && !one.internal)?.address ?? '127.0.0.1'
  await start({}, ['--session-network-allow', `allowed.localhost:${own}`])
  const b = await branch()
  const other = await branch({ name: 'other' })
  const [ann, bob, far] = [await session(b, 'ann'), await session(b, 'bob'), await session(other, 'ann')]
  const server = "import http.server as h\nclass H(h.BaseHTTPRequestHandler):\n def do_GET(s):\n  s.send_response(200); s.end_headers(); s.wfile.write(b'from ann')\n def log_message(s,*a): pass\nh.HTTPServer(('127.0.0.1',3000),H).serve_forever()"
  await said(b, ann, { shell: 'setsid python3 -c "$S" >/dev/null 2>&1 & disown', env: { S: server } })
  const curl = (target) => `curl -sS -m 5 ${target} 2>&1; true`
  await eventually('a neighbour reaches it', async () => (await said(b, bob, curl('http://localhost:3000/'))) === 'from ann')
  assert.doesNotMatch(await said(other, far, curl('http://localhost:3000/')), /from ann/)
  // Both may use the same port.
  await said(other, far, { shell: 'setsid python3 -c "$S" >/dev/null 2>&1 & disown', env: { S: server.replace('from ann', 'from far') } })
  await eventually('its own', async () => (await said(other, far, curl('http://localhost:3000/'))) === 'from far')
  for (const target of [`http://127.0.0.1:${own}/`, `http://${address}:${own}/`, `http://localhost:${own}/`, `${url}/healthz`, `http://${address}:${harness.port}/healthz`]) {
    for (const more of ['', '--noproxy "*"', '-x "" ']) {
      const told = await said(b, ann, curl(`${more} ${target}`))
      assert.ok(!/from the machine|^ok/.test(told), `${more} ${target}: ${told}`)
    }
  }
  assert.equal(await (await fetch(`http://127.0.0.1:${own}/`)).text(), 'from the machine', 'the control')
  const { ports } = await eventually('listed', async () => {
    const list = await (await api('GET', `/v1/branches/${b.id}/ports`, undefined, as(bob))).json()
    return list.ports.some((one) => one.port === 3000 && one.process) && list
  })
  assert.deepEqual(ports.map((one) => [one.port, one.process, one.session]), [[3000, 'python3', 'ann']])
  const { url: ticket } = await (await api('POST', `/v1/branches/${b.id}/ports/3000/preview`, undefined, as(bob))).json()
  const { cookie } = await enter(ticket)
  assert.equal((await ask(ticket.split('?')[0], { headers: { cookie } })).body, 'from ann')
  await api('DELETE', `/v1/branches/${b.id}/sessions/ann`)
  await eventually('not listed any more', async () => (await (await api('GET', `/v1/branches/${b.id}/ports`)).json()).ports.length === 0)
  lan.close()
}

/** A command that is not to be trusted with what is private to its session. */
export async function without_private() {
  await start()
  const b = await branch()
  const ann = await session(b, 'ann', 'write', { env: { ANN_TOKEN: 'perch-secret-env' } })
  const put = await api('PUT', `/v1/branches/${b.id}/sessions/ann/private/token`, 'perch-secret-file', as(ann))
  assert.equal(put.status, 204)
  const other = lines(b, ann, 'exec sleep 1000 # perch-bystander')
  other.next().catch(() => {})
  await eventually('it runs', async () => (await run(b, ann, 'pgrep -f "sleep 100[0]"')).exit?.code === 0)
  const attacks = [
    'cat ~/.private/token', 'cat /run/perch/private/token', 'cat /proc/self/root/root/.private/token', 'ln -sf ~/.private x; cat x/token; rm x',
    'cat /proc/[0-9]*/environ | tr "\\0" "\\n" | grep -a ANN_TOKEN', 'env | grep ANN_TOKEN', 'pkill -CONT -f "sleep 100[0]" && echo perch-secret signal',
    'cat ~/.private/.environment', 'cp ~/.private/token . && cat token; rm -f token'
  ]
  for (const shell of attacks) {
    assert.match((await run(b, ann, { shell })).out, /perch-secret/, `${shell}: a trusted one may`)
    const { out, err } = await run(b, ann, { shell, private: false })
    assert.doesNotMatch(out + err, /perch-secret/, shell)
  }
  // It works in the branch's files like any other.
  assert.equal(await said(b, ann, { shell: 'echo one > a.txt && git init -q . && git add a.txt && cat a.txt && python3 -c "print(2)"', private: false }), 'one\n2\n')
  assert.equal(fs.readFileSync(path.join(b.files, 'a.txt'), 'utf8'), 'one\n')
}
