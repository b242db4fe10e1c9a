/* Events of the server, in the order in which they come. The browser connects again by itself. */

export function listen({ onEvent, onOnline }) {
  const source = new EventSource("/api/events");
  source.onopen = () => onOnline(true);
  source.onmessage = (message) => onEvent(JSON.parse(message.data));
  source.onerror = () => {
    onOnline(false);
    // After an answer that is no stream, such as 403, the browser gives up.
    if (source.readyState === EventSource.CLOSED) setTimeout(() => listen({ onEvent, onOnline }), 3000);
  };
}
