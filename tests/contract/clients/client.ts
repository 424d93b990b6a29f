// What somebody writes against the TypeScript client: its types come from the document alone, and are checked.
import createClient from "openapi-fetch";
import type { components, paths } from "./api.js";

declare const process: { env: Record<string, string | undefined> };

function check(holds: unknown, what: unknown): asserts holds {
  if (!holds) throw new Error(JSON.stringify(what));
}

const client = createClient<paths>({
  baseUrl: process.env.CONTRACT_ROOT,
  headers: { authorization: `Bearer ${process.env.CONTRACT_API_KEY}` },
});

const made = await client.POST("/v1/webhooks/endpoints", {
  body: { url: "http://127.0.0.1:9/taken", events: ["core.orders.*"] },
});
check(made.data, made);
const endpoint = made.data;
check(endpoint.secret.startsWith("whsec_"), endpoint);

const published = await client.POST("/v1/webhooks/events", {
  body: { type: "core.orders.created.v1", payload: { orderId: 42 } },
});
check(published.data && "id" in published.data, published);
const event = published.data.id;

const end = Date.now() + 30_000;
let delivery: components["schemas"]["Delivery"] | undefined;
while (!delivery) {
  const page = await client.GET("/v1/webhooks/deliveries", {
    params: { query: { targetId: endpoint.id, status: "delivered" } },
  });
  check(page.data && Date.now() < end, page);
  delivery = page.data.items[0];
  // What another process does can only be asked for.
  if (!delivery) await new Promise((resolve) => setTimeout(resolve, 20));
}
check(delivery.eventId === event && delivery.targetId === endpoint.id && delivery.attemptCount === 1, delivery);

const refused = await client.POST("/v1/webhooks/endpoints", { body: { url: "nowhere", events: ["core.orders.*"] } });
const problem: components["schemas"]["Problem"] | undefined = refused.error;
check(refused.response.status === 422 && problem, refused);
check(problem.errors.map((error) => error.field).join() === "url", problem);
