/* What of nDPI is used, in calls that are the same for every version: the layout of its structures and its own calls
 * are for the compiler to know. */

#include <stdint.h>
#include <stdlib.h>
#include <ndpi_api.h>

#if NDPI_MAJOR != 4 || NDPI_MINOR != 2
#error "this is written for nDPI 4.2 (Debian 12: libndpi-dev)"
#endif

/* A detection module with all protocols, or NULL. Not to be called twice at a time. */
void *pathflow_ndpi_module(void)
{
	NDPI_PROTOCOL_BITMASK all;
	struct ndpi_detection_module_struct *module = ndpi_init_detection_module(ndpi_no_prefs);

	if (module == NULL)
		return NULL;
	NDPI_BITMASK_SET_ALL(all);
	ndpi_set_protocol_detection_bitmask2(module, &all);
	ndpi_finalize_initialization(module);
	return module;
}

void pathflow_ndpi_module_free(void *module)
{
	ndpi_exit_detection_module(module);
}

/* What is known of one flow, or NULL. */
void *pathflow_ndpi_flow(void)
{
	return ndpi_calloc(1, sizeof(struct ndpi_flow_struct));
}

void pathflow_ndpi_flow_free(void *flow)
{
	ndpi_free_flow(flow);
}

static uint32_t pair(ndpi_protocol protocol)
{
	return (uint32_t)protocol.master_protocol << 16 | protocol.app_protocol;
}

/* Takes a packet from its IP header on. Returns master and application protocol, 0 if not known yet; is_final is set if
 * further packets cannot tell more. */
uint32_t pathflow_ndpi_packet(void *module, void *flow, const uint8_t *packet, uint16_t octets, uint64_t milliseconds,
			      uint8_t *is_final)
{
	ndpi_protocol found = ndpi_detection_process_packet(module, flow, packet, octets, milliseconds);

	*is_final = found.app_protocol != NDPI_PROTOCOL_UNKNOWN && !ndpi_extra_dissection_possible(module, flow);
	return pair(found);
}

/* What the packets so far say. No packet may follow. */
uint32_t pathflow_ndpi_give_up(void *module, void *flow, uint8_t guess)
{
	uint8_t guessed = 0;

	return pair(ndpi_detection_giveup(module, flow, guess, &guessed));
}

/* The name of a protocol; it lives as long as the module. */
const char *pathflow_ndpi_name(void *module, uint16_t protocol)
{
	return ndpi_get_proto_name(module, protocol);
}
