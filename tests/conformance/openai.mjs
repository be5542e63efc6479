// OpenAI's JavaScript clients against a server's /v1/realtime or, `live`, /v1/live/sessions: a question is asked, and the
// answer is printed as JSON.
//   node openai.mjs openai|agents|live URL KEY SECONDS [question.wav]   (16 bit, mono; without one, a tone)
// `openai` connects over TLS alone: name the server's certificate in NODE_EXTRA_CA_CERTS.
import { readFileSync } from 'node:fs';

const [client, url, key, seconds, file] = process.argv.slice(2);
const told = { client, words: '', seconds: 0, kinds: {}, errors: [] };
const note = (event) => {
  told.kinds[event.type] = (told.kinds[event.type] ?? 0) + 1;
  if (/output_(audio_)?transcript.delta$/.test(event.type)) told.words += event.delta;
  if (/output_audio.delta$/.test(event.type)) told.seconds += Buffer.from(event.delta, 'base64').length / 48000;
};

function* pieces() {
  const recording = file && readFileSync(file);
  const start = recording && recording.indexOf('data') + 8;
  for (let n = 0; n < seconds * 10; n++) {
    const piece = Buffer.alloc(4800);
    if (recording) recording.copy(piece, 0, start + n * 4800, start + (n + 1) * 4800);
    else if (n < 15) for (let i = 0; i < 2400; i++) piece.writeInt16LE(9000 * Math.sin((2 * Math.PI * 300 * i) / 24000), 2 * i);
    yield piece;
  }
}

async function talk(send) {
  const began = Date.now();
  let sent = 0;
  for (const piece of pieces()) {
    send(piece);
    await new Promise((done) => setTimeout(done, Math.max(0, began + ++sent * 100 - Date.now())));
  }
}

async function openai() {
  const { default: OpenAI } = await import('openai');
  const { OpenAIRealtimeWS } = await import('openai/realtime/ws');
  const line = new OpenAIRealtimeWS({ model: 'gpt-realtime' }, new OpenAI({ apiKey: key, baseURL: url }));
  line.on('event', note);
  line.on('error', (error) => told.errors.push(String(error)));
  await new Promise((open) => line.socket.addEventListener('open', open));
  line.send({ type: 'session.update', session: { type: 'realtime', instructions: 'Be kind.' } });
  await talk((piece) => line.send({ type: 'input_audio_buffer.append', audio: piece.toString('base64') }));
  line.close();
}

async function agents() {
  const { OpenAIRealtimeWebSocket, RealtimeAgent, RealtimeSession } = await import('@openai/agents-realtime');
  const address = url.replace(/^http/, 'ws') + '/realtime?model=gpt-realtime';
  const transport = new OpenAIRealtimeWebSocket({ url: address });
  const session = new RealtimeSession(new RealtimeAgent({ name: 'guide', instructions: 'Be kind.' }), { transport });
  session.on('error', (error) => told.errors.push(JSON.stringify(error)));
  session.on('history_updated', (history) => (told.history = history.length));
  session.transport.on('*', note);
  await session.connect({ apiKey: key });
  await talk((piece) => session.sendAudio(piece.buffer.slice(piece.byteOffset, piece.byteOffset + piece.length)));
  session.close();
}

async function live() {
  const { default: OpenAI } = await import('openai');
  const { LiveWS } = await import('openai/resources/live/ws');
  const line = new LiveWS(new OpenAI({ apiKey: key, baseURL: url }));
  const heard = (type) => new Promise((done) => line.on('event', (event) => event.type === type && done()));
  const [started, closed] = [heard('session.started'), heard('session.closed')];
  line.on('event', note);
  line.on('error', (error) => told.errors.push(String(error)));
  line.send({ type: 'session.start', session: { model: 'tiny', audio: { format: { type: 'audio/pcm', rate: 24000 } } } });
  await started;
  await talk((piece) => line.send({ type: 'session.input_audio.append', audio: piece.toString('base64') }));
  line.send({ type: 'session.close' });
  await closed;
  line.close();
}

await { openai, agents, live }[client]();
console.log(JSON.stringify(told));
process.exit(told.errors.length || !told.seconds ? 1 : 0);
