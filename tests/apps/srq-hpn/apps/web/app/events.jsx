"use client";

import { useEffect, useState } from "react";

// Empty in production: the API is below the same domain.
const base = process.env.NEXT_PUBLIC_API_BASE_URL ?? "";

export default function Events() {
  const [events, setEvents] = useState([]);
  useEffect(() => {
    fetch(`${base}/api/events`)
      .then((answer) => answer.json())
      .then((answer) => setEvents(answer.events));
  }, []);
  return (
    <section aria-label="Events, first edition">
      <ul>
        {events.map((event) => (
          <li key={event.id}>{event.title}</li>
        ))}
      </ul>
    </section>
  );
}
