import { connection } from "next/server";
import Events from "./events";

// Rendered for each request, by the server of the container.
export default async function Page() {
  await connection();
  return (
    <main>
      <h1>SRQ HPN</h1>
      <p>Rendered at {new Date().toISOString()}</p>
      <Events />
    </main>
  );
}
