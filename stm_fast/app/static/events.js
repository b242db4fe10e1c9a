/* Events of the server, in the order in which they come. The browser connects again by itself. */

const RETRY_MS = 3000;

export function listen(address, { onEvent, onOnline, onRefused }) {
  const source = new EventSource(address);
  source.onopen = () => onOnline(true);
  source.onmessage = (message) => onEvent(JSON.parse(message.data));
  source.onerror = () => {
    onOnline(false);
    // After an answer that is no stream, such as 403, the browser gives up.
    if (source.readyState !== EventSource.CLOSED) return;
    onRefused();
    setTimeout(() => listen(address, { onEvent, onOnline, onRefused }), RETRY_MS);
  };
}
